//! The process, which is there without a broker, too.

use prometheus_client::registry::Unit;

use super::family::{Family, Read, family};

pub fn families() -> Vec<Family> {
    use Read::Process as P;
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    vec![
        family(
            "process_cpu",
            seconds.clone(),
            "CPU time, user and system",
            Read::ProcessCounter(|p| p.cpu_seconds),
        ),
        family("process_resident_memory", bytes.clone(), "Memory in RAM", P(|p| p.resident_bytes)),
        family("process_virtual_memory", bytes, "Address space", P(|p| p.virtual_bytes)),
        family("process_threads", None, "Threads", P(|p| p.threads)),
        family("process_open_fds", None, "Open file descriptors", P(|p| p.open_files)),
        family("process_max_fds", None, "Limit of open file descriptors", P(|p| p.max_files)),
        family("process_start_time", seconds, "Start of the process, Unix time", P(|p| p.start_seconds)),
        Family {
            name: "headwater_build_info",
            unit: None,
            help: "Always 1; the label says which version",
            labels: &["version"],
            read: Read::Build,
        },
    ]
}
