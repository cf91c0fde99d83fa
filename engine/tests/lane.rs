//! A lane keeps its promises over all three backends: bytes come back, errors keep their kind,
//! what is begun ends.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use engine::io::blocking::Blocking;
use engine::io::{BodyFile, HelperPool, Lane};
use tokio::task::LocalSet;

/// Runs a test over every backend that this machine allows.
fn over_every_backend(test: impl AsyncFn(Lane, &Path)) {
    for backend in ["ring", "pool", "inline"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        on_a_core(async {
            let lane = match backend {
                "ring" => match Lane::ring(HelperPool::new(2)) {
                    Ok(lane) => lane,
                    // Containers may forbid io_uring.
                    Err(error) => return eprintln!("no ring here: {error}"),
                },
                "pool" => Lane::pool(HelperPool::new(2)),
                _ => Lane::inline(Arc::new(Blocking::new())),
            };
            assert_eq!(lane.backend_name(), backend);
            test(lane, dir.path()).await;
        });
    }
}

fn on_a_core<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(future))
}

async fn sync(lane: &Lane, file: BodyFile) {
    let (done, ended) = tokio::sync::oneshot::channel();
    lane.sync_detached(file, move |result| done.send(result).unwrap());
    ended.await.unwrap().unwrap();
}

#[test]
fn what_was_written_is_read() {
    over_every_backend(async |lane, dir| {
        let path = dir.join("body");
        let file = lane.create(&path).await.unwrap();
        let (mut offset, mut buf) = (0, Vec::new());
        for piece in [1usize, 65_536, 65_537, 3 << 20] {
            buf.resize(piece, piece as u8);
            buf = lane.write(&file, buf, offset).await.unwrap();
            assert!(buf.is_empty() && buf.capacity() >= piece, "the buffer comes back for reuse");
            offset += piece as u64;
        }
        sync(&lane, file.clone()).await;
        let file = lane.open(&path).await.unwrap();
        assert_eq!(lane.size(&file).await.unwrap(), offset);
        let bytes = lane.read(&file, 1, 65_537).await.unwrap();
        assert_eq!(bytes.len(), 65_537);
        assert_eq!((bytes[65_535], bytes[65_536]), (0, 1));
        let all = lane.read(&file, 0, 8 << 20).await.unwrap();
        assert_eq!(all.len() as u64, offset, "a read ends at the end of the file");
        assert!(lane.read(&file, offset + 5, 10).await.unwrap().is_empty());
    });
}

#[test]
fn errors_keep_their_kind() {
    over_every_backend(async |lane, dir| {
        let missing = lane.open(&dir.join("missing")).await.err().unwrap();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        lane.create(&dir.join("a")).await.unwrap();
        let again = lane.create(&dir.join("a")).await.err().unwrap();
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        let no_dir = lane.create(&dir.join("x/y")).await.err().unwrap();
        assert_eq!(no_dir.kind(), std::io::ErrorKind::NotFound);
        let read_only = lane.open(&dir.join("a")).await.unwrap();
        assert!(lane.write(&read_only, vec![1; 200_000], 0).await.is_err());
    });
}

#[test]
fn only_regular_files_are_opened() {
    over_every_backend(async |lane, dir| {
        if lane.backend_name() == "inline" {
            return;
        }
        let (fifo, link) = (dir.join("fifo"), dir.join("link"));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        for path in [fifo.as_path(), &link, dir] {
            let opened = tokio::time::timeout(Duration::from_secs(10), lane.open(path)).await;
            assert!(opened.expect("it does not hang").is_err(), "{path:?}");
        }
    });
}

#[test]
fn many_operations_at_once_all_end() {
    over_every_backend(async |lane, dir| {
        let tasks: Vec<_> = (0..300u32)
            .map(|n| {
                let (lane, path) = (lane.clone(), dir.join(n.to_string()));
                tokio::task::spawn_local(async move {
                    let file = lane.create(&path).await.unwrap();
                    lane.write(&file, n.to_le_bytes().repeat(20_000), 0).await.unwrap();
                    sync(&lane, file.clone()).await;
                    lane.read(&file, 40, 4).await.unwrap() == n.to_le_bytes()
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap());
        }
    });
}

#[test]
fn a_detached_sync_ends_though_lane_and_runtime_are_gone() {
    for ring in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (done, ended) = mpsc::channel();
        on_a_core(async {
            let pool = HelperPool::new(1);
            let lane = match ring {
                true => Lane::ring(pool.clone()).unwrap_or(Lane::pool(pool)),
                false => Lane::pool(pool),
            };
            let file = lane.create(&dir.path().join("a")).await.unwrap();
            lane.write(&file, vec![1; 1000], 0).await.unwrap();
            lane.sync_detached(file, move |result| done.send(result.is_ok()).unwrap());
        });
        assert!(ended.recv_timeout(Duration::from_secs(10)).unwrap());
    }
}

#[test]
fn a_busy_core_does_not_starve_the_ring() {
    on_a_core(async {
        let Ok(lane) = Lane::ring(HelperPool::new(1)) else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let work = tokio::task::spawn_local(async move { lane.create(&path).await.is_ok() });
        // A task that always has more to do, as a large FETCH does: the thread never parks.
        let started = std::time::Instant::now();
        while !work.is_finished() {
            tokio::task::yield_now().await;
            assert!(started.elapsed() < Duration::from_secs(10), "starved");
        }
        assert!(work.await.unwrap());
    });
}
