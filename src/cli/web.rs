//! `longshore web`.

use std::time::Duration;

use super::args::{Common, WebArgs};
use super::complaint::Complaint;
use super::output::Output;
use super::process::{self, WebServer};
use super::shutdown::Shutdown;
use super::status::ExitStatus;

/// How long requests that are under way may take when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn run(
    common: &Common,
    args: &WebArgs,
    _: Output,
) -> Result<ExitStatus, Complaint> {
    let mut shutdown = Shutdown::listen()?;
    let config = process::settings(common, args.flags())?;
    let runtime = process::connect(&config, "web").await?;
    let server = WebServer::start(&config, &runtime, config.web.listen).await?;
    let address = server.address()?;
    tracing::info!(web.address = %address, version = env!("CARGO_PKG_VERSION"), "Web server listens on http://{address}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server.serve(async move { drop(stopped.await) });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = shutdown.asked() => {
            tracing::info!("Stopping: requests under way are answered; signal again to stop at once");
            drop(stop);
            tokio::select! {
                ended = &mut serving => ended?,
                () = shutdown.asked() => {}
                () = runtime.clock().sleep(STOP_LIMIT) => {}
            }
        }
    }
    runtime.stop().await;
    Ok(ExitStatus::Done)
}
