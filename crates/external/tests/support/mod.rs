//! Database servers of the tests' own, on ports and in directories of their own.
#![allow(dead_code)] // Each test binary uses some of it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
pub const PASSWORD: &str = "of-the-tests";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program of the tests; absent it is a skip with a reason, and a failure under CI=true.
fn program(name: &str, package: &str, beside: Vec<PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        let reason = format!("{name} is not installed (Debian: apt-get install {package})");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
        eprintln!("skipped: {reason}");
    }
    found
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whom a server runs as: PostgreSQL refuses root.
fn servant() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8(id.stdout).unwrap().trim() != "0" {
        return None;
    }
    let known = fs::read_to_string("/etc/passwd").unwrap();
    let line = known.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A PostgreSQL with an empty database, until it is dropped.
pub struct PostgresServer {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    tls: bool,
    child: Option<Child>,
}

impl PostgresServer {
    /// `None` where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// With a certificate and its key, in PEM, it speaks TLS.
    pub fn start_with(identity: Option<(&str, &str)>) -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let beside = versions.map(|version| version.path().join("bin")).collect();
        let bin = program("initdb", "postgresql", beside)?.parent()?.to_owned();
        let folder = tempfile::Builder::new().prefix("hw-pg").tempdir_in("/tmp").unwrap();
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        if let Some((uid, gid)) = servant() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mut server = Self { folder, bin, port: free_port(), tls: identity.is_some(), child: None };
        let mut initdb = server.command("initdb");
        initdb.args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--username=tests",
            "--auth=scram-sha-256",
        ]);
        initdb.arg("-D").arg(server.data()).arg(format!("--pwfile={}", password.display()));
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, pem) in identity.iter().flat_map(|(certificate, key)| [("crt", certificate), ("key", key)])
        {
            let file = server.data().join(format!("server.{name}"));
            fs::write(&file, pem).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = servant() {
                chown(&file, Some(uid), Some(gid)).unwrap();
            }
        }
        server.begin();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(self.folder.path());
        if let Some((uid, gid)) = servant() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server, also again after [`PostgresServer::end`].
    pub fn begin(&mut self) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        // What is tested dies, not the machine.
        for setting in
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=50"]
        {
            command.args(["-c", setting]);
        }
        if self.tls {
            command.args(["-c", "ssl=on"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let port = self.port.to_string();
        wait_until("PostgreSQL answers", || {
            let mut ask = self.command("pg_isready");
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().unwrap().success()
        });
    }

    /// Ends the server at once, as a crash does.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "QUIT");
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    pub fn url_with(&self, password: &str) -> String {
        format!("postgres://tests:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// What a statement answers: rows, with `|` between their columns.
    pub fn sql(&self, statement: &str) -> Vec<String> {
        let mut psql = self.command("psql");
        psql.env("PGPASSWORD", PASSWORD).args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-h", "127.0.0.1", "-U", "tests", "-d", "postgres", "-p", &self.port.to_string()]);
        let said = psql.args(["-c", statement]).output().unwrap();
        assert!(said.status.success(), "{statement}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// A Redis that writes every command to its append-only file, until it is dropped.
pub struct RedisServer {
    folder: TempDir,
    program: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// `None` where Redis is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Option<Self> {
        let program = program("redis-server", "redis-server", Vec::new())?;
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { folder, program, port: free_port(), child: None };
        server.begin(more);
        Some(server)
    }

    pub fn begin(&mut self, more: &[&str]) {
        let folder: &Path = self.folder.path();
        let mut command = Command::new(&self.program);
        command
            .arg("--port")
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(folder)
            .args(["--bind", "127.0.0.1"]);
        command
            .args(["--appendonly", "yes", "--appendfsync", "always", "--requirepass", PASSWORD])
            .args(more);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until("Redis answers", || self.command(&["PING"]) == ["PONG"]);
    }

    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    pub fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}/0", self.port)
    }

    /// What a command answers, line by line.
    pub fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut cli = Command::new(self.program.with_file_name("redis-cli"));
        cli.args(["--no-auth-warning", "-a", PASSWORD, "-p", &self.port.to_string()]).args(arguments);
        let said = cli.output().unwrap();
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end();
    }
}
