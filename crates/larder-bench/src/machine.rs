//! The machine that the benchmark runs on, as far as it can be found out.

use std::fs;

/// What a reader needs to know about the machine to judge the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) system: String,
    pub(crate) compiler: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let version = std::process::Command::new("rustc").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Self {
            processor: processor(&cpuinfo).unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: meminfo("MemTotal"),
            system: format!("{} {}", std::env::consts::OS, release.split('-').next().unwrap_or_default())
                .trim()
                .to_owned(),
            compiler: version.split(" (").next().unwrap_or_default().to_owned(),
        }
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

fn meminfo(field: &str) -> Option<u64> {
    in_meminfo(&fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn in_meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Checks that this many bytes of memory are free, and a quarter more. Passes if the machine does not tell.
pub(crate) fn enough_memory(bytes: u64) -> Result<(), String> {
    match meminfo("MemAvailable") {
        Some(available) if available < bytes + bytes / 4 => Err(format!(
            "it takes about {} of memory, and {} are free",
            gigabytes(bytes + bytes / 4),
            gigabytes(available)
        )),
        _ => Ok(()),
    }
}

pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.0} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(processor("flags\t: fpu\nmodel name\t: Some Processor 7\n"), Some("Some Processor 7"));
        assert_eq!(in_meminfo("MemTotal:  2048 kB\nMemFree: 1 kB\n", "MemTotal"), Some(2_097_152));
        assert_eq!(in_meminfo("MemTotalX: 2048 kB\n", "MemTotal"), None);
    }

    #[test]
    fn more_memory_than_there_is_is_refused_with_both_figures() {
        if meminfo("MemAvailable").is_some() {
            assert!(enough_memory(1 << 60).unwrap_err().starts_with("it takes about 1441151881 GB of memory, and "));
        }
        assert_eq!(enough_memory(1), Ok(()));
    }
}
