//! What a process has used: processor time and memory, as the kernel counts them.
//!
//! Read from `/proc`, so on systems without it there are no figures, and the report says so.

use std::fs;

/// Linux counts in hundredths of a second for user space, whatever its own clock does (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Which process.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// This one; its processor time includes that of children that have ended.
    Itself,
    Process(u32),
}

impl Of {
    fn file(self, name: &str) -> Option<String> {
        let path = match self {
            Self::Itself => format!("/proc/self/{name}"),
            Self::Process(id) => format!("/proc/{id}/{name}"),
        };
        fs::read_to_string(path).ok()
    }

    /// Seconds of processor time so far.
    pub fn cpu_seconds(self) -> Option<f64> {
        let stat = self.file("stat")?;
        // The second field is the name in parentheses and may hold anything; the third follows the last of them.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
        let ticks =
            fields.get(11..15)?.iter().map(|field| field.parse::<f64>()).sum::<Result<f64, _>>().ok()?;
        Some(ticks / TICKS_PER_SECOND)
    }

    /// The most memory it had at any time, in bytes.
    pub fn peak_rss_bytes(self) -> Option<u64> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_a_vanished_one_has_no_figures() {
        assert!(Of::Itself.peak_rss_bytes().unwrap() > 1 << 20);
        assert!(Of::Itself.cpu_seconds().unwrap() >= 0.0);
        assert_eq!(Of::Process(u32::MAX).peak_rss_bytes(), None);
        assert_eq!(Of::Process(u32::MAX).cpu_seconds(), None);
    }
}
