//! RabbitMQ with its stream plugin, as Debian installs it, and `perfTest`, the load generator of its Go client, built
//! once in the cache. The node is a child with files, name and ports of its own, on the loopback alone; it shares
//! nothing with a RabbitMQ that the machine runs as a service.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::both::Peer;
use super::librdkafka;
use super::outcome::Sample;
use super::process::{self, Owned};
use super::window::{Progress, Window};
use crate::{go, kafka};

/// The scripts that stay the user who calls them; those in `/usr/sbin` become the service's user first.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const CLIENT: &str = "1.8.3";
/// What the client asks for.
const GO: &str = "1.25.0";
const NODE: &str = "headwater-bench@localhost";
/// What the node and its command line tools are told alike.
const LOOPBACK: &str = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
/// The segments of Ethernet, as `setsockopt(IPPROTO_TCP, TCP_MAXSEG)` takes them. The client asks for a receive
/// buffer of 8 KiB, in which one of the loopback's segments of 32 KiB finds no room: confirms would wait for the
/// window probe of 200 ms.
const SOCKETS: &str =
    "[{rabbitmq_stream,[{tcp_listen_options,[{backlog,128},{nodelay,true},{raw,6,2,<<1448:32/native>>}]}]}].";
const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(20);
/// `perfTest` puts the time before the body.
const TIME: usize = 8;

static NAME: OnceLock<String> = OnceLock::new();

struct Tools {
    name: &'static str,
    client: PathBuf,
}

/// Fetches and compiles nothing that is there already.
fn build() -> Result<Tools> {
    let script = Path::new(SCRIPTS).join("rabbitmq-server");
    let Ok(script) = script.canonicalize() else {
        bail!(
            "RabbitMQ is not in {SCRIPTS} (Debian: apt-get install rabbitmq-server, then systemctl disable --now \
             rabbitmq-server, because a node of its own is started here)"
        );
    };
    let release = release(&script).with_context(|| format!("{} names no release", script.display()))?;
    let name = NAME.get_or_init(|| format!("RabbitMQ {release} (stream, confirms)"));
    let home = kafka::cache().join(format!("rabbitmq-stream-go-client-{CLIENT}"));
    let module = format!("github.com/rabbitmq/rabbitmq-stream-go-client/perfTest@v{CLIENT}");
    go::install(&home, GO, &[module])?;
    Ok(Tools { name, client: home.join("perfTest") })
}

/// The scripts are links into a directory that is named after the release.
fn release(script: &Path) -> Option<&str> {
    script.iter().find_map(|part| part.to_str()?.strip_prefix("rabbitmq_server-"))
}

/// The files and the environment of one node.
struct Settings {
    environment: Vec<(&'static str, String)>,
    names: u16,
    stream: u16,
    text: String,
}

impl Settings {
    fn new(dir: &Path) -> Result<Self> {
        let [names, stream, nodes] = [kafka::free_port()?, kafka::free_port()?, kafka::free_port()?];
        let at = |name: &str| dir.join(name).display().to_string();
        let environment = vec![
            // Where the cookie is, by which the tools are let in.
            ("HOME", dir.display().to_string()),
            ("ERL_EPMD_PORT", names.to_string()),
            ("RABBITMQ_NODENAME", NODE.to_owned()),
            ("RABBITMQ_DIST_PORT", nodes.to_string()),
            ("RABBITMQ_MNESIA_BASE", at("data")),
            ("RABBITMQ_LOG_BASE", at("log")),
            // Nothing of /etc/rabbitmq.
            ("RABBITMQ_CONF_ENV_FILE", at("environment")),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", at("conf.d/*.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins")),
            // With it the script becomes the node instead of waiting for it; but there is nobody to type anything.
            ("RABBITMQ_ALLOW_INPUT", "true".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("-noinput {LOOPBACK}")),
            ("RABBITMQ_CTL_ERL_ARGS", LOOPBACK.to_owned()),
        ];
        let text = format!(
            "listeners.tcp = none\nstream.listeners.tcp.1 = 127.0.0.1:{stream}\n\
             stream.advertised_host = 127.0.0.1\nstream.advertised_port = {stream}\n"
        );
        Ok(Self { environment, names, stream, text })
    }

    fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir.join("conf.d")).with_context(|| format!("creating {}", dir.display()))?;
        let files = [
            ("environment", ""),
            ("plugins", "[rabbitmq_stream]."),
            ("advanced.config", SOCKETS),
            ("rabbitmq.conf", &self.text),
        ];
        for (name, text) in files {
            fs::write(dir.join(name), text)
                .with_context(|| format!("writing {name} in {}", dir.display()))?;
        }
        Ok(())
    }

    fn shown(&self) -> String {
        format!("{}; {SOCKETS}", self.text.trim().replace('\n', "; "))
    }
}

pub struct Rabbit {
    // Killed in this order: the node, then the directory of nodes that it is entered in.
    node: Owned,
    _names: Owned,
    environment: Vec<(&'static str, String)>,
    uri: String,
    command: String,
    /// What tables call it, with its version.
    pub name: &'static str,
    client: PathBuf,
}

impl Peer for Rabbit {
    const BENCH: &'static str = "rabbitmq";

    /// Waits until the node serves streams.
    fn start(dir: &Path) -> Result<Self> {
        let Tools { name, client } = build()?;
        let settings = Settings::new(dir)?;
        settings.write(dir)?;
        let names = directory(settings.names)?;
        let log = dir.join("rabbitmq.log");
        let output = File::create(&log)?;
        let mut command = process::tied(&format!("{SCRIPTS}/rabbitmq-server"));
        command.envs(settings.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let shown = format!("{}` with `{}", process::shown(&command), settings.shown());
        let mut node = Owned::spawn(&mut command)?;
        let begun = Instant::now();
        while !has_started(&log) {
            if let Some(status) = node.0.try_wait()? {
                bail!("rabbitmq-server ended with {status}; see {}", log.display());
            }
            if begun.elapsed() > START_LIMIT {
                bail!("rabbitmq-server did not serve; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Its user from the first start on, who may come from this machine only.
        let uri = format!("rabbitmq-stream://guest:guest@127.0.0.1:{}/%2f", settings.stream);
        let environment = settings.environment;
        Ok(Self { node, _names: names, environment, uri, command: shown, name, client })
    }

    fn pid(&self) -> u32 {
        self.node.pid()
    }

    fn command(&self) -> &str {
        &self.command
    }

    fn stop(mut self) -> Result<()> {
        process::signal(self.pid(), "TERM")?;
        self.node.finish(Duration::from_secs(60)).map(drop)
    }
}

impl Rabbit {
    pub fn delete(&self, stream: &str) -> Result<()> {
        let mut command = Command::new(format!("{SCRIPTS}/rabbitmqctl"));
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        librdkafka::run(command.args(["--quiet", "--node", NODE, "delete_queue", stream]))
    }
}

/// Erlang's directory of nodes. Left to itself a node starts one that outlives it.
fn directory(port: u16) -> Result<Owned> {
    let mut command = process::tied("epmd");
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut names = Owned::spawn(&mut command)?;
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = names.0.try_wait()? {
            bail!("epmd, which RabbitMQ needs, ended with {status} (Debian: apt-get install erlang-base)");
        }
        if begun.elapsed() > START_LIMIT {
            bail!("epmd did not serve on port {port}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(names)
}

/// A node says how many plugins it started when all of them serve.
fn has_started(log: &Path) -> bool {
    fs::read(log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("Starting broker... completed"))
}

/// A run of `perfTest` by one publisher into a new stream.
pub struct Publish<'a> {
    pub stream: &'a str,
    /// Of a message, the time in it included.
    pub size: usize,
    /// How messages are put together.
    pub way: &'a [&'a str],
}

impl Publish<'_> {
    fn command(&self, client: &Path, uri: &str) -> Command {
        let mut command = process::tied(&client.to_string_lossy());
        command.args(["--no-color", "--uris", uri, "--streams", self.stream, "--consumers", "0"]);
        command.args(["--fixed-body", &(self.size - TIME).to_string()]).args(self.way);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs for `seconds` after `warmup` seconds; throughput and CPU are those of the time between.
    pub fn run(&self, rabbit: &Rabbit, warmup: f64, seconds: f64) -> Result<Sample> {
        let mut command = self.command(&rabbit.client, &rabbit.uri);
        let mut driver = Owned::spawn(&mut command)?;
        let lines = BufReader::new(driver.0.stderr.take().context("no output to read")?).lines();
        // Its lines come once a second, a little early or late.
        let (from, to) = (warmup - 0.5, warmup + seconds - 0.5);
        let mut window = Window::new(rabbit.pid(), driver.pid(), from, to);
        let (mut first, mut last, mut progress) = (None, String::new(), Progress::Running);
        for line in lines {
            last = line?;
            let Some(rate) = confirmed(&last) else { continue };
            let since_first = first.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
            let elapsed = 1.0 + since_first;
            progress = window.add(elapsed, rate * elapsed)?;
            if progress == Progress::Over {
                break;
            }
        }
        if progress != Progress::Over {
            bail!("perfTest ended too early: {last}");
        }
        process::signal(driver.pid(), "TERM")?;
        driver.finish(END_LIMIT)?;
        window.sample(self.size as f64, process::shown(&command))
    }
}

/// Confirmed messages a second since the start, from a line of `perfTest`.
fn confirmed(line: &str) -> Option<f64> {
    let after = line.split_once("| confirm ")?.1;
    after.split_once(" msg/s")?.0.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_names_the_version_that_is_built() {
        assert!(super::super::cases::rabbitmq::METHOD.contains(&format!("stream client {CLIENT}")));
    }

    #[test]
    fn a_line_is_read_and_an_announcement_is_not() {
        let line = "2026/11/30 19:11:12 [info] publish 11,160.0 msg/s | confirm  9,120.5 msg/s | consume      0.0 \
                    msg/s |  Full | Body sz: 1024 | latency 0 ms";
        assert_eq!(confirmed(line), Some(9120.5));
        assert_eq!(confirmed("2026/11/30 19:10:57 [info] [publish] Starting 1 publisher(s)..."), None);
    }

    #[test]
    fn the_release_is_that_of_the_directory() {
        let script = Path::new("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server");
        assert_eq!(release(script), Some("3.10.8"));
        assert_eq!(release(Path::new("/opt/rabbitmq/sbin/rabbitmq-server")), None);
    }

    #[test]
    fn messages_have_the_size_that_was_asked_for() {
        let run = Publish { stream: "bench", size: 1024, way: &["--batch-size", "16"] };
        let shown = process::shown(&run.command(Path::new("perfTest"), "rabbitmq-stream://here"));
        assert!(shown.contains("--fixed-body 1016 --batch-size 16"), "{shown}");
    }

    #[test]
    fn a_node_keeps_to_its_directory_and_to_the_loopback() {
        let settings = Settings::new(Path::new("/bench/rabbit")).unwrap();
        for (key, value) in &settings.environment {
            let is_path = key.ends_with("_BASE") || key.contains("_FILE");
            assert_eq!(is_path, value.starts_with("/bench/rabbit/"), "{key}={value}");
        }
        let listeners: Vec<_> = settings.text.lines().filter(|line| line.contains("listeners")).collect();
        let stream = format!("stream.listeners.tcp.1 = 127.0.0.1:{}", settings.stream);
        assert_eq!(listeners, ["listeners.tcp = none", stream.as_str()]);
    }
}
