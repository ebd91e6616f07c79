//! What the operating system says of this process; nothing where it has no `/proc`.

use std::fs;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub threads: Option<f64>,
    pub start_seconds: Option<f64>,
    pub open_files: Option<f64>,
    pub max_files: Option<f64>,
}

impl Process {
    pub fn read() -> Self {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may hold anything, also spaces.
        let fields: Vec<f64> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| {
            rest.split_whitespace().map(|field| field.parse().unwrap_or(f64::NAN)).collect()
        });
        // Numbered from 1 in proc(5), and the first two are gone.
        let field = |number: usize| fields.get(number - 3).copied().filter(|value| !value.is_nan());
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
            threads: field(20),
            start_seconds: field(22).zip(boot_seconds()).map(|(start, boot)| boot + start / ticks),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as f64),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64),
            max_files: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .current
                .map(|limit| limit as f64),
        }
    }
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
