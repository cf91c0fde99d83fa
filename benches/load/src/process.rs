//! What the server costs: CPU time and memory of given processes and all their descendants.
//!
//! Peers fork a process per session, so a single pid says nothing; the tree below it does. Time of
//! children that ended is in their parent's `cutime`/`cstime` and thus still counted.

use std::collections::HashMap;
use std::fs;

/// Memory of a process tree in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are divided among those that map them.
    pub(crate) pss: u64,
    /// The anonymous part of it: heap and stacks, without mapped files.
    pub(crate) pss_anon: u64,
    pub(crate) processes: u64,
}

/// CPU time in seconds spent by the trees below `roots`, ended children included.
pub(crate) fn cpu_seconds(roots: &[u32]) -> f64 {
    let all = stats();
    let ticks: u64 = tree(&all, roots).iter().map(|pid| all[pid].ticks).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Memory of the trees below `roots`, as the kernel sums it in `smaps_rollup`.
pub(crate) fn memory(roots: &[u32]) -> Memory {
    let all = stats();
    let mut sum = Memory::default();
    for pid in tree(&all, roots) {
        // A process may end between the listing and this read; it then costs nothing.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        sum.processes += 1;
        sum.pss += field_bytes(&text, "Pss:");
        sum.pss_anon += field_bytes(&text, "Pss_Anon:");
    }
    sum
}

/// CPU time of this process itself, in seconds, to the scheduler's precision.
pub(crate) fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stats() -> HashMap<u32, Stat> {
    let mut all = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return all };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = parse_stat(&text) {
            all.insert(pid, stat);
        }
    }
    all
}

/// The command name may hold spaces and parentheses, so fields count from the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { parent, ticks })
}

fn tree(all: &HashMap<u32, Stat>, roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = roots.iter().copied().filter(|pid| all.contains_key(pid)).collect();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children: Vec<u32> = all
            .iter()
            .filter(|(pid, stat)| stat.parent == parent && !found.contains(pid))
            .map(|(&pid, _)| pid)
            .collect();
        found.extend(children);
        next += 1;
    }
    found
}

fn field_bytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name_is_read() {
        let stat =
            parse_stat("42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7 8")
                .unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 100));
    }

    #[test]
    fn own_tree_has_memory_and_time() {
        let own = std::process::id();
        let memory = memory(&[own]);
        assert!(memory.processes >= 1 && memory.pss > 0 && memory.pss_anon <= memory.pss);
        assert!(own_cpu_seconds() > 0.0);
    }

    #[test]
    fn descendants_are_found_once() {
        let stat = |parent| Stat { parent, ticks: 1 };
        let all = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (9, stat(0))]);
        let mut found = tree(&all, &[1, 2]);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }
}
