//! The machine: processor, memory, kernel, load, and the versions of what makes filesystems.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Programs whose versions decide about defaults of filesystems, with the option that asks.
const PROGRAMS: [(&str, &str); 5] = [
    ("mke2fs", "-V"),
    ("mkfs.xfs", "-V"),
    ("mkfs.btrfs", "--version"),
    ("mkfs.f2fs", "-V"),
    ("mdadm", "--version"),
];

/// Facts of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub host: String,
    /// Kernel name, release and version.
    pub kernel: String,
    /// First processor.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Load of the last minute when the run ended: others that worked at the same time are noise.
    pub load_1min: f64,
    /// Runs under a hypervisor, or is a guest kernel in a process.
    pub virtual_machine: bool,
    /// Versions of the programs that make filesystems, where they are installed.
    pub versions: Vec<String>,
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':')).map(|(_, v)| v.trim())
}

impl Machine {
    /// Looks.
    pub fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        let kilobytes = field(&memory, "MemTotal").and_then(|v| v.split(' ').next()?.parse().ok());
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let flags = field(&cpu, "flags").unwrap_or_default();
        Machine {
            host: text(name.nodename()),
            kernel: [name.sysname(), name.release(), name.version()].map(text).join(" "),
            processor: field(&cpu, "model name").unwrap_or("not known").to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kilobytes.unwrap_or(0u64) * 1024,
            load_1min: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor")
                || cpu.contains("User Mode Linux"),
            versions: PROGRAMS.iter().filter_map(|(name, ask)| version(name, ask)).collect(),
        }
    }

    /// A guest kernel in a process, whose system calls cost many times more than a real one's.
    pub fn is_user_mode_linux(&self) -> bool {
        self.processor.contains("UML") || self.kernel.contains("user-mode")
    }
}

/// The first line that a program says of itself.
fn version(name: &str, ask: &str) -> Option<String> {
    let output = Command::new(name).arg(ask).output().ok()?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(match line.starts_with(name) {
        true => line.to_owned(),
        false => format!("{name}: {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_a_processor_and_memory() {
        let machine = Machine::look();
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20);
    }

    #[test]
    fn fields_are_found_by_their_name() {
        let text = "model name\t: A Fast One\nMemTotal:       1024 kB\n";
        assert_eq!(field(text, "model name"), Some("A Fast One"));
        assert_eq!(field(text, "MemTotal"), Some("1024 kB"));
        assert_eq!(field(text, "nothing"), None);
    }
}
