use super::*;
use crate::io::{Open, Storage, StoredFile};

const SEEDS: u64 = 200;

fn file(sim: &Sim, path: &str) -> Arc<dyn StoredFile> {
    sim.open(Path::new(path), Open::Create).unwrap()
}

fn contents(sim: &Sim, path: &str) -> Option<Vec<u8>> {
    let file = sim.open(Path::new(path), Open::Read).ok()?;
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_ones_some() {
    let (mut lost, mut kept, mut mixed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let sim = Sim::new(1);
        let a = file(&sim, "/a");
        a.write_at(&[1; 2048], 0).unwrap();
        a.sync_data().unwrap();
        a.write_at(&[2; 2048], 0).unwrap();
        sim.crash(seed);
        let bytes = contents(&sim, "/a").expect("a synced new file keeps its name");
        assert_eq!(bytes.len(), 2048);
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|b| *b == sector[0]), "whole sectors don't tear");
        }
        match bytes.iter().filter(|b| **b == 2).count() {
            0 => lost += 1,
            2048 => kept += 1,
            _ => mixed += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && mixed > 0, "{lost} {kept} {mixed}");
}

#[test]
fn parts_of_a_sector_tear_at_words() {
    let mut torn = 0;
    for seed in 0..SEEDS {
        let sim = Sim::new(1);
        let a = file(&sim, "/a");
        a.write_at(&[1; 512], 0).unwrap();
        a.sync_data().unwrap();
        a.write_at(&[2; 64], 4).unwrap();
        sim.crash(seed);
        let bytes = contents(&sim, "/a").unwrap();
        let n = bytes.iter().filter(|b| **b == 2).count();
        if !matches!(n, 0 | 64) {
            torn += 1;
            assert_eq!((4 + n) % 8, 0);
        }
    }
    assert!(torn > 0);
}

#[test]
fn one_sector_keeps_a_prefix_of_its_writes() {
    for seed in 0..SEEDS {
        let sim = Sim::new(1);
        let a = file(&sim, "/a");
        for n in 1..=5u8 {
            a.write_at(&[n; 8], u64::from(n - 1) * 8).unwrap();
        }
        sim.crash(seed);
        let bytes = contents(&sim, "/a").unwrap_or_default();
        let words: Vec<u8> = bytes.chunks(8).map(|w| w[0]).collect();
        assert_eq!(words, (1..=words.len() as u8).collect::<Vec<_>>());
    }
}

#[test]
fn ordered_names_survive_as_a_prefix_and_weak_ones_as_any_subset() {
    let (mut gaps, mut ordered_counts) = (0, HashSet::new());
    for seed in 0..SEEDS {
        for mode in [Mode::Ordered, Mode::Weak] {
            let sim = Sim::with_mode(1, mode);
            let names = ["/a", "/b", "/c", "/d"];
            names.iter().for_each(|name| drop(file(&sim, name)));
            sim.crash(seed);
            let there: Vec<bool> = names.iter().map(|n| sim.stat(Path::new(n)).is_ok()).collect();
            let gap = there.windows(2).any(|pair| pair == [false, true]);
            match mode {
                Mode::Ordered => {
                    assert!(!gap, "{there:?}");
                    ordered_counts.insert(there.iter().filter(|t| **t).count());
                }
                Mode::Weak | Mode::NoJournal => gaps += usize::from(gap),
            }
        }
    }
    assert!(gaps > 0);
    assert_eq!(ordered_counts.len(), 5);
}

#[test]
fn a_synced_directory_keeps_its_names_in_both_modes() {
    for seed in 0..SEEDS {
        for mode in [Mode::Ordered, Mode::Weak] {
            let sim = Sim::with_mode(1, mode);
            sim.create_dir(Path::new("/x")).unwrap();
            sim.create_dir(Path::new("/y")).unwrap();
            sim.sync_dir(Path::new("/")).unwrap();
            drop(file(&sim, "/x/a"));
            sim.rename(Path::new("/x/a"), Path::new("/y/b")).unwrap();
            sim.sync_dir(Path::new("/y")).unwrap();
            sim.crash(seed);
            assert!(sim.stat(Path::new("/y/b")).is_ok());
            assert!(sim.stat(Path::new("/x/a")).is_err());
        }
    }
}

#[test]
fn a_rename_is_atomic() {
    for seed in 0..SEEDS {
        let sim = Sim::with_mode(1, Mode::Weak);
        drop(file(&sim, "/a"));
        sim.sync_dir(Path::new("/")).unwrap();
        sim.rename(Path::new("/a"), Path::new("/b")).unwrap();
        sim.crash(seed);
        let there = |name| sim.stat(Path::new(name)).is_ok();
        assert!(there("/a") != there("/b"));
    }
}

#[test]
fn without_a_journal_a_rename_leaves_either_name_both_or_none() {
    let mut seen = HashSet::new();
    for seed in 0..SEEDS {
        let sim = Sim::with_mode(1, Mode::NoJournal);
        drop(file(&sim, "/a"));
        sim.sync_dir(Path::new("/")).unwrap();
        sim.rename(Path::new("/a"), Path::new("/b")).unwrap();
        sim.crash(seed);
        let there = |name| sim.stat(Path::new(name)).is_ok();
        seen.insert((there("/a"), there("/b")));
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_failed_sync_loses_bytes_and_the_next_one_lies() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let a = file(&sim, "/a");
        a.sync_data().unwrap();
        a.write_at(&[3; 4096], 0).unwrap();
        sim.fail_at(sim.operations() + 1, Fault::Io);
        assert_eq!(a.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
        a.sync_data().unwrap();
        assert_eq!(contents(&sim, "/a").unwrap(), vec![3; 4096]);
        sim.crash(seed);
        lost += usize::from(contents(&sim, "/a").unwrap() != vec![3; 4096]);
    }
    assert!(lost > SEEDS as usize / 2);
}

#[test]
fn write_durable_survives_without_saving_other_sectors() {
    let mut others_lost = 0;
    for seed in 0..SEEDS {
        let sim = Sim::new(1);
        let a = file(&sim, "/a");
        a.allocate(16384).unwrap();
        a.sync_all().unwrap();
        a.write_at(&[1; 4096], 0).unwrap();
        a.write_at(&[1; 4096], 8192).unwrap();
        a.write_durable(&[2; 4096], 8192).unwrap();
        sim.crash(seed);
        let bytes = contents(&sim, "/a").unwrap();
        assert_eq!(bytes[8192..12288], [2; 4096]);
        others_lost += usize::from(bytes[..4096] != [1; 4096]);
    }
    assert!(others_lost > 0);
}

#[test]
fn after_the_power_cut_everything_fails_until_the_crash() {
    let sim = Sim::new(1);
    let a = file(&sim, "/a");
    a.sync_all().unwrap();
    sim.stop_at(sim.operations() + 2);
    a.write_at(b"x", 0).unwrap();
    assert!(is_power_cut(&a.write_at(b"y", 1).unwrap_err()));
    assert!(is_power_cut(&a.read_at(&mut [0], 0).unwrap_err()));
    assert!(sim.is_stopped() && sim.stat(Path::new("/a")).is_err());
    sim.crash(7);
    assert!(sim.stat(Path::new("/a")).is_ok());
    assert!(is_power_cut(&a.read_at(&mut [0], 0).unwrap_err()), "old handles stay dead");
}

#[test]
fn a_short_write_leaves_half_and_fails() {
    let sim = Sim::new(1);
    let a = file(&sim, "/a");
    sim.fail_at(sim.operations() + 1, Fault::ShortWrite);
    assert_eq!(a.write_at(b"abcd", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(contents(&sim, "/a").unwrap(), b"ab");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let sim = Sim::with_mode(3, Mode::Weak);
        for n in 0..20u8 {
            file(&sim, &format!("/f{n}")).write_at(&vec![n; 100 * n as usize], 7).unwrap();
        }
        sim.crash(seed);
        let mut all = Vec::new();
        sim.list(Path::new("/"), &mut |name, _| all.push(name.to_vec())).unwrap();
        let read = |name: &Vec<u8>| contents(&sim, &format!("/{}", String::from_utf8_lossy(name)));
        let bytes: Vec<_> = all.iter().map(read).collect();
        (all, bytes)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn rename_follows_posix() {
    let sim = Sim::new(1);
    let path = Path::new;
    for dir in ["/d", "/d/e", "/full"] {
        sim.create_dir(path(dir)).unwrap();
    }
    drop((file(&sim, "/full/x"), file(&sim, "/f"), file(&sim, "/g")));
    let code = |r: io::Result<()>| r.unwrap_err().raw_os_error();
    assert_eq!(code(sim.rename(path("/d"), path("/full"))), Some(libc::ENOTEMPTY));
    assert_eq!(code(sim.rename(path("/d"), path("/d/e/z"))), Some(libc::EINVAL));
    assert_eq!(code(sim.rename(path("/f"), path("/d"))), Some(libc::EISDIR));
    assert_eq!(code(sim.rename_noreplace(path("/f"), path("/g"))), Some(libc::EEXIST));
    sim.rename(path("/f"), path("/g")).unwrap();
    assert!(sim.stat(path("/f")).is_err() && sim.stat(path("/g")).is_ok());
    assert_eq!(code(sim.remove_dir(path("/full"))), Some(libc::ENOTEMPTY));
}
