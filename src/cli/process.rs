//! What long-running commands share: settings, log, connections, roles, and their end.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::shutdown::Shutdown;
use crate::action::Registry;
use crate::action::builtin;
use crate::client::ClientSettings;
use crate::config::Config;
use crate::executor::ExecutorSettings;
use crate::http;
use crate::runtime::{RunningExecutor, Runtime};
use crate::telemetry;

/// Reads the settings and starts the log.
pub(super) fn settings(common: &Common, flags: Flags) -> Result<Config, Complaint> {
    let config = common.load(flags)?.config;
    telemetry::init(&config.log);
    Ok(config)
}

/// Connects to store and broker, and holds the schema against this program's.
pub(super) async fn connect(config: &Config, role: &str) -> Result<Runtime, Complaint> {
    let runtime = Runtime::connect(config.store.address()?, config.broker.address()?, role).await?;
    runtime.check_schema().await?;
    Ok(runtime)
}

/// How this process's clients are set up.
pub(super) fn client_settings(config: &Config) -> ClientSettings {
    ClientSettings {
        limits: config.limits.payload,
        refuses_unknown_actions: config.web.strict_actions,
    }
}

/// Starts the executor that the settings describe, with the built-in actions and `more`.
pub(super) async fn start_executor(
    config: &Config,
    runtime: &Runtime,
    registry: Registry,
) -> Result<RunningExecutor, Complaint> {
    let settings = ExecutorSettings {
        name: config.executor.name.clone(),
        host: crate::config::env::host_name().to_string(),
        slots: config.executor.slots.clone(),
        creates_queues: config.executor.create_queues,
        limits: config.limits.payload,
    };
    let executor = runtime
        .executor(registry, settings, config.retention.final_tasks)
        .await?;
    let queues: Vec<String> = config
        .executor
        .slots
        .iter()
        .map(|(queue, slots)| format!("{queue}={slots}"))
        .collect();
    tracing::info!(
        executor.id = %executor.id(), executor.name = %config.executor.name, version = env!("CARGO_PKG_VERSION"),
        "Executor `{}` serves {}", config.executor.name, queues.join(", ")
    );
    Ok(executor)
}

/// The built-in actions, as the settings allow.
pub(super) fn registry(config: &Config, runtime: &Runtime) -> Registry {
    builtin::registry(
        std::sync::Arc::clone(runtime.clock()),
        config.executor.allowed_commands.clone(),
        builtin::HttpRights {
            hosts: config.executor.http_hosts.clone(),
            callback_url: config
                .http
                .callback_url
                .as_ref()
                .map(|url| url.expose().to_owned()),
        },
    )
}

/// Waits for the first signal, or an operator's wish, then drains; the next signal stops at once and hands the tasks back.
pub(super) async fn until_drained(
    config: &Config,
    executor: RunningExecutor,
    shutdown: &mut Shutdown,
) {
    tokio::select! {
        () = shutdown.asked() => {}
        () = executor.drain_asked() => {}
    }
    let (running, limit) = (executor.running(), config.executor.drain_timeout);
    let limit_words = super::output::duration(limit);
    tracing::info!(
        tasks = running,
        "Stopping: what runs ({running}) may run on for {limit_words}; signal again to stop at once"
    );
    let drained = tokio::select! {
        drained = executor.drain(limit) => drained,
        () = shutdown.asked() => executor.drain(std::time::Duration::ZERO).await,
    };
    tracing::info!(
        tasks = drained.given_back,
        "Stopped; given back unfinished: {}",
        drained.given_back
    );
}

/// A web server that is ready to serve.
pub(super) struct WebServer {
    listener: TcpListener,
    app: http::App,
}

impl WebServer {
    /// Listens on `address` and starts the client behind it.
    pub(super) async fn start(
        config: &Config,
        runtime: &Runtime,
        address: SocketAddr,
    ) -> Result<Self, Complaint> {
        let listener = http::bind(address).await?;
        let client = runtime.client(client_settings(config)).await?;
        let app = http::App {
            client,
            store: std::sync::Arc::clone(runtime.store()),
            broker: std::sync::Arc::clone(runtime.broker()),
        };
        Ok(Self { listener, app })
    }

    /// Where it listens: the port is the real one, also when 0 was asked for.
    pub(super) fn address(&self) -> Result<SocketAddr, Complaint> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `stop` resolves, and then what is under way.
    pub(super) async fn serve(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Complaint> {
        Ok(http::serve(self.listener, self.app, stop).await?)
    }
}
