//! The flights service, in this process or as one of its own.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use headwater_flights::StreamsApp;
use serde_json::json;
use tokio::sync::oneshot;

/// Where the service finds everything: the variables that its configuration reads.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: Vec<(&'static str, String)>,
}

impl Environment {
    /// `command_config` has TLS and SASL for `kafka`.
    pub fn new(
        (kafka, command_config): (&str, Option<&Path>),
        registry: &str,
        state: &Path,
        http: SocketAddr,
    ) -> Self {
        let mut variables = vec![
            ("HEADWATER_BOOTSTRAP", kafka.to_owned()),
            ("HEADWATER_REGISTRY", registry.to_owned()),
            ("HEADWATER_STATE_DIR", state.display().to_string()),
            ("HEADWATER_HTTP", http.to_string()),
        ];
        variables.extend(command_config.map(|file| ("HEADWATER_COMMAND_CONFIG", file.display().to_string())));
        Self { variables }
    }

    /// For a process.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        self.variables.clone()
    }

    fn get(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}

/// Starts the service in this process and returns it with the address it answers on.
pub async fn start(environment: &Environment) -> Result<(StreamsApp, SocketAddr)> {
    let app = headwater_flights::start(&|name: &str| environment.get(name))
        .await
        .context("starting the service")?;
    let http = app.http().context("HEADWATER_HTTP is set, so the service answers")?;
    Ok((app, http))
}

/// Keeps the service until `stop`; its own end is an error.
pub async fn keep(app: StreamsApp, stop: oneshot::Receiver<()>) -> Result<()> {
    tokio::select! {
        ended = app.wait() => {
            ended.context("the service failed")?;
            bail!("the service ended by itself");
        }
        // A sender that is gone means the same.
        _ = stop => {}
    }
    app.stop().await.context("stopping the service")
}

/// The service as a process: settings from the environment, one line on standard output when it is ready, ends
/// on SIGTERM.
pub async fn serve() -> Result<()> {
    let app = headwater_flights::start(&|name: &str| std::env::var(name).ok()).await?;
    println!("{}", json!({ "ready": true, "http": app.http().map(|http| format!("http://{http}")) }));
    Ok(app.run_until_signal().await?)
}
