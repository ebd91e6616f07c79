//! Node and service: in this process, or as processes of their own that are killed in rotation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use headwater_node::{Node, NodeConfig};
use tokio::sync::{oneshot, watch};

use crate::background::Background;
use crate::directory::Directory;
use crate::killer::Killer;
use crate::options::Options;
use crate::process::{Program, Running, free_port};
use crate::service::{self, Environment};

/// How long the killer may take to give its processes back.
const END_WITHIN: Duration = Duration::from_secs(5);
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Everything that serves. Dropping it ends child processes at once; [`Cluster::stop`] is the clean way.
pub struct Cluster {
    /// `HOST:PORT` of the broker.
    pub kafka: String,
    /// Base URL of registry and console.
    pub http: String,
    node: Option<Node>,
    service: Option<InProcess>,
    /// Processes that nobody kills at the moment.
    calm: Vec<Running>,
    hunted: Option<Hunted>,
    kills: u64,
}

/// The service in this process.
struct InProcess {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// Processes in the hands of the killer.
struct Hunted {
    on: watch::Sender<bool>,
    survivors: oneshot::Receiver<Vec<Running>>,
    kills: Arc<AtomicU64>,
}

impl Cluster {
    /// Starts broker (unless there is one already), registry and console.
    pub async fn start(options: &Options, directory: &Directory) -> Result<Self> {
        if options.kill_every.is_some() && options.bootstrap.is_none() {
            return Self::start_node_process(options, directory).await;
        }
        let free = SocketAddr::from((LOCAL, 0));
        let config = NodeConfig {
            data_dir: directory.node(),
            kafka: free,
            http: free,
            bootstrap: options.bootstrap.clone(),
            default_partitions: 1,
            config_file: None,
            // On a Kafka of somebody else's everybody on this machine may use the registry as long as the demo runs.
            configs: options.bootstrap.iter().map(|_| "headwater.insecure=true".to_owned()).collect(),
            security: options.security.clone(),
        };
        let node = Node::start(config).await?;
        let (kafka, http) = (node.kafka().to_owned(), node.http());
        Ok(Self { kafka, http, node: Some(node), service: None, calm: Vec::new(), hunted: None, kills: 0 })
    }

    /// Ports are chosen here, because the node has to come back at the same address.
    async fn start_node_process(options: &Options, directory: &Directory) -> Result<Self> {
        let (kafka, http) = (format!("{LOCAL}:{}", free_port()?), format!("{LOCAL}:{}", free_port()?));
        let data_dir = directory.node().display().to_string();
        let arguments = ["up", "--json", "--data-dir", &data_dir, "--listen", &kafka, "--http", &http];
        let mut node = Running::start(Program {
            name: "node",
            executable: options.executable.clone(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            log: directory.log_of("node"),
        })?;
        node.ready().await?;
        let http = format!("http://{http}");
        Ok(Self { kafka, http, node: None, service: None, calm: vec![node], hunted: None, kills: 0 })
    }

    /// Starts the service, and the killing if that is wanted. Returns the address at which the service answers.
    pub async fn start_service(
        &mut self,
        options: &Options,
        directory: &Directory,
        background: &Background,
    ) -> Result<SocketAddr> {
        let state = directory.service();
        let Some(every) = options.kill_every else {
            let environment = Environment::new(
                (&self.kafka, options.command_config.as_deref()),
                &self.http,
                &state,
                (LOCAL, 0).into(),
            );
            let (app, http) = service::start(&environment).await?;
            let (stop, stopped) = oneshot::channel();
            let ended = background.spawn("the service in this process", service::keep(app, stopped));
            self.service = Some(InProcess { stop, ended });
            return Ok(http);
        };
        let http = SocketAddr::from((LOCAL, free_port()?));
        let mut service = Running::start(Program {
            name: "service",
            executable: options.executable.clone(),
            arguments: vec!["demo-service".to_owned()],
            environment: Environment::new(
                (&self.kafka, options.command_config.as_deref()),
                &self.http,
                &state,
                http,
            )
            .variables(),
            log: directory.log_of("service"),
        })?;
        service.ready().await?;
        self.calm.push(service);
        let killer = Killer::new(std::mem::take(&mut self.calm), every);
        self.hunt(killer, true, background);
        Ok(http)
    }

    fn hunt(&mut self, killer: Killer, on: bool, background: &Background) {
        let kills = killer.kills();
        let (on, switch) = watch::channel(on);
        let survivors = background.spawn("the processes", killer.run(switch));
        self.hunted = Some(Hunted { on, survivors, kills });
    }

    /// Ends the killing; everything goes on running.
    pub async fn calm_down(&mut self) -> Result<()> {
        if let Some(Hunted { on, survivors, kills }) = self.hunted.take() {
            drop(on);
            self.calm = survivors.await.context("the processes have failed")?;
            self.kills = kills.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Watches the processes again, without killing any.
    pub fn watch_over(&mut self, options: &Options, background: &Background) {
        if let (Some(every), false) = (options.kill_every, self.calm.is_empty()) {
            let killer = Killer::new(std::mem::take(&mut self.calm), every);
            self.hunt(killer, false, background);
        }
    }

    /// How many processes have been killed until [`Self::calm_down`].
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// Processor seconds of the child processes that run.
    pub fn cpu_seconds(&self) -> f64 {
        self.calm.iter().filter_map(Running::cpu_seconds).sum()
    }

    /// The most memory that the child processes had, added up.
    pub fn peak_rss_bytes(&mut self) -> u64 {
        self.calm.iter_mut().filter_map(Running::peak_rss_bytes).sum()
    }

    /// Ends everything at once, as after a failure: the directory is as a power cut would leave it.
    pub async fn end(mut self) {
        if let Some(Hunted { on, survivors, .. }) = self.hunted.take() {
            drop(on);
            // The killer gives its processes back, or has lost them to the failure that is being reported.
            self.calm = tokio::time::timeout(END_WITHIN, survivors)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or_default();
        }
        self.calm.clear();
    }

    /// Stops the service, then the node.
    pub async fn stop(mut self) -> Result<()> {
        self.calm_down().await?;
        if let Some(InProcess { stop, ended }) = self.service {
            // Its end is awaited; a service that has ended already has told why.
            let _ = stop.send(());
            let _ = ended.await;
        }
        while let Some(process) = self.calm.pop() {
            process.stop().await?;
        }
        if let Some(node) = self.node {
            node.shutdown().await;
        }
        Ok(())
    }
}
