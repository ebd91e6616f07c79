//! A proxy between the broker and the store, as the environment names it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{HEADWATER, Node};

/// Keeps the first line of each request and answers that it may not be.
fn proxy() -> (String, mpsc::Receiver<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = format!("http://{}", socket.local_addr().expect("an address"));
    let (told, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in socket.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            let mut rest = String::new();
            while reader.read_line(&mut rest).is_ok_and(|read| read > 2) {
                rest.clear();
            }
            let _ =
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if told.send(line).is_err() {
                return;
            }
        }
    });
    (address, lines)
}

fn start(data_dir: &Path, endpoint: &str, environment: &[(&str, &str)]) -> Node {
    let mut command = Command::new(HEADWATER);
    command.args(["up", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data_dir);
    for setting in [
        "headwater.cold.store=s3://history/of",
        "headwater.cold.local.bytes=1048576",
        "log.cleaner.backoff.ms=100",
    ] {
        command.args(["--config", setting]);
    }
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    Node::start_as(&mut command)
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_store_is_asked_through_the_proxy_that_the_environment_names() {
    let dir = tempfile::tempdir().expect("a directory");
    for (number, (endpoint, variable, begins)) in [
        ("http://store.invalid:9000", "http_proxy", "GET http://store.invalid:9000/history"),
        ("https://store.invalid", "https_proxy", "CONNECT store.invalid:443"),
        ("https://store.invalid", "ALL_PROXY", "CONNECT store.invalid:443"),
        ("https://store.invalid", "AWS_PROXY_URL", "CONNECT store.invalid:443"),
    ]
    .into_iter()
    .enumerate()
    {
        let (address, lines) = proxy();
        let node = start(&dir.path().join(number.to_string()), endpoint, &[(variable, address.as_str())]);
        let line = lines.recv_timeout(PATIENCE).expect("the proxy is asked");
        assert!(line.starts_with(begins), "{variable}: {line}");
        node.terminate();
    }
}

#[test]
fn what_no_proxy_names_is_asked_directly() {
    let dir = tempfile::tempdir().expect("a directory");
    let ((proxy, asked), (store, lines)) = (proxy(), proxy());
    let node =
        start(dir.path(), &store, &[("http_proxy", proxy.as_str()), ("no_proxy", "localhost,127.0.0.0/8")]);
    let line = lines.recv_timeout(PATIENCE).expect("the store itself is asked");
    assert!(line.starts_with("GET /history"), "{line}");
    node.terminate();
    assert_eq!(asked.try_recv().ok(), None);
}
