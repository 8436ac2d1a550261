//! `longshore dev`: a whole system in one process.

use super::args::{Common, DevArgs};
use super::complaint::Complaint;
use super::output::Output;
use super::process::{self, WebServer};
use super::shutdown::Shutdown;
use super::status::ExitStatus;
use crate::config::Source;
use crate::runtime::Runtime;

/// Where `dev` keeps tasks when nothing else is said.
const STORE: &str = "sqlite:longshore-dev.db";

/// The programs that the action `command` may run when nothing else is said: they harm nobody.
const PROGRAMS: &str = "cat,date,echo,false,sha256sum,sleep,true,uname,wc";

pub(super) async fn run(
    common: &Common,
    args: DevArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let mut shutdown = Shutdown::listen()?;
    let mut flags = args.web.flags();
    flags.extend(args.executor.flags());
    let asked = common.load(flags.clone())?;
    for (key, value) in [
        ("store.url", STORE),
        ("broker.url", "embedded"),
        ("executor.allow_commands", PROGRAMS),
    ] {
        let is_said = asked
            .explain()
            .iter()
            .any(|one| one.key == key && one.source != Source::Default);
        if !is_said {
            flags.insert(key, value.to_owned());
        }
    }
    let config = process::settings(common, flags)?;
    let runtime =
        Runtime::connect(config.store.address()?, config.broker.address()?, "dev").await?;
    runtime.store().migrate().await?;
    let executor =
        process::start_executor(&config, &runtime, process::registry(&config, &runtime)).await?;
    let server = WebServer::start(&config, &runtime, config.web.listen).await?;
    let address = server.address()?;
    let store = config.store.address()?;
    output.say(&format!(
        "running: {store}, broker {}, http://{address}",
        config.broker.address()?
    ));
    output.say(&format!(
        "try: curl -H 'Content-Type: application/json' -H 'Prefer: wait=10' http://{address}/v1/tasks \
         -d '{{\"action\": \"echo\", \"input\": \"hello\"}}'"
    ));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server.serve(async move { drop(stopped.await) });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = process::until_drained(&config, executor, &mut shutdown) => {}
    }
    drop(stop);
    tokio::select! {
        ended = &mut serving => ended?,
        () = shutdown.asked() => {}
        () = runtime.clock().sleep(std::time::Duration::from_secs(2)) => {}
    }
    runtime.stop().await;
    Ok(ExitStatus::Done)
}
