//! `cargo xtask faults capture`: real clients' requests, kept for the fuzzer.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Result;

use crate::broker::{ANY_PORT, Launch};
use crate::proxy::{Capture, Proxy};

/// Prints the address for clients, and ends with its standard input.
pub fn run(headwater: PathBuf, directory: PathBuf) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let proxy = runtime.block_on(Proxy::open(0, Some(Capture::new(directory)?)))?;
    let data = tempfile::tempdir()?;
    let launch = Launch {
        headwater,
        listen: ANY_PORT.to_owned(),
        data: data.path().join("data"),
        words: data.path().join("words"),
        configs: proxy.settings(),
        strace: Vec::new(),
        ignore_file_size_signal: false,
        environment: Vec::new(),
    };
    let broker = launch.serve()?;
    println!("{}", proxy.address);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    broker.kill()
}
