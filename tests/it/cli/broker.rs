//! Brokers that are not there, and making one as it should be.

use super::{PASSWORD, REFUSED, Shell, steady};
use crate::support::rabbitmq::Rabbit;

#[tokio::test]
async fn commands_that_need_the_broker_say_that_it_is_away() {
    let shell = Shell::migrated()
        .await
        .with(
            "AMQP_URL",
            format!("amqp://me:{PASSWORD}@{REFUSED}/longshore"),
        )
        .with("LONGSHORE_LOG_FILTER", "error")
        .with(
            "LONGSHORE_BROKER_MANAGEMENT_URL",
            format!("http://me:{PASSWORD}@{REFUSED}"),
        );
    let said = shell
        .session(&[
            "tap",
            "queue create bulk",
            "queue list",
            "broker plan",
            "broker check",
            "doctor",
        ])
        .await;
    insta::assert_snapshot!(steady(&said), @r#"
    $ longshore tap
    ! error: the broker does not answer: Connection refused (os error 111)
    ! hint: is the server of `AMQP_URL` running and reachable?
    = 1
    $ longshore queue create bulk
    ! error: the broker does not answer: Connection refused (os error 111)
    ! hint: is the server of `AMQP_URL` running and reachable?
    = 1
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING  PAUSED
    default  0          0      0
    = 0
    $ longshore broker plan
    ! error: the management interface of the broker does not answer at http://127.0.0.1:1/: Connection refused (os error 111); is the plugin on (`rabbitmq-plugins enable rabbitmq_management`), and the port right (15672 is usual)?
    = 1
    $ longshore broker check
    ! error: the management interface of the broker does not answer at http://127.0.0.1:1/: Connection refused (os error 111); is the plugin on (`rabbitmq-plugins enable rabbitmq_management`), and the port right (15672 is usual)?
    = 1
    $ longshore doctor
    WHAT       RESULT  DETAIL
    longshore  ok      0.1.0
    store      ok      SQLite [..]
    clock      ok      [..]
    schema     ok      8
    broker     wrong   the broker does not answer: Connection refused (os error 111)
    topology   wrong   the management interface of the broker does not answer at http://127.0.0.1:1/: Connection refused (os error 111); is the plugin on (`rabbitmq-plugins enable rabbitmq_management`), and the port right (15672 is usual)?
    ! hint (broker): is the server of `AMQP_URL` running and reachable?
    = 1
    "#);
}

#[tokio::test]
async fn an_executor_and_a_web_server_work_without_the_broker_and_say_so() {
    let shell = Shell::migrated().await.with(
        "AMQP_URL",
        format!("amqp://me:{PASSWORD}@{REFUSED}/longshore"),
    );
    let executor = shell.start("executor", "serves default").await;
    assert!(
        executor
            .said
            .iter()
            .any(|line| line.contains("the broker is away")),
        "{:?}",
        executor.said
    );
    let web = shell.start("web --listen 127.0.0.1:0", "listens on").await;
    assert!(
        web.said
            .iter()
            .any(|line| line.contains("the broker is away")),
        "{:?}",
        web.said
    );
    let done = shell
        .run("task submit echo 1 --wait=30 -o json")
        .await
        .with_status(0);
    assert_eq!(done.json()["output"], 1);
    assert_eq!((web.stop().await, executor.stop().await), (0, 0));
}

#[tokio::test]
async fn a_broker_that_refuses_us_says_what_to_check() {
    let rabbit = Rabbit::shared();
    let vhost = rabbit.vhost().await;
    let url = vhost.url();
    let (_, host) = url.split_once('@').unwrap();
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_LOG_FILTER", "error");
    let wrong = format!("amqp://longshore-admin:{PASSWORD}@{host}");
    let shell = shell.with("AMQP_URL", wrong);
    let mut said = shell.session(&["tap", "web", "executor"]).await;
    let shell = shell.with("AMQP_URL", rabbit.amqp("longshore-admin", "nowhere"));
    said.push_str(&shell.session(&["tap", "queue create bulk"]).await);
    insta::assert_snapshot!(said, @r#"
    $ longshore tap
    ! error: the broker refuses: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.
    ! hint: check user, password and virtual host in `AMQP_URL`
    = 1
    $ longshore web
    ! error: the broker refuses: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.
    ! hint: check user, password and virtual host in `AMQP_URL`
    = 1
    $ longshore executor
    ! error: the broker refuses: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.
    ! hint: check user, password and virtual host in `AMQP_URL`
    = 1
    $ longshore tap
    ! error: the broker refuses: NOT_ALLOWED - vhost nowhere not found
    ! hint: check user, password and virtual host in `AMQP_URL`
    = 1
    $ longshore queue create bulk
    ! error: the broker refuses: NOT_ALLOWED - vhost nowhere not found
    ! hint: check user, password and virtual host in `AMQP_URL`
    = 1
    "#);
}

#[tokio::test]
async fn a_broker_is_planned_made_and_checked() {
    let rabbit = Rabbit::shared();
    let management = rabbit.management();
    let shell = Shell::new()
        .with("LONGSHORE_BROKER_MANAGEMENT_URL", management)
        .with("AMQP_URL", rabbit.amqp("longshore-admin", "planned"));
    let plan = shell.run("broker plan").await.with_status(0);
    let count = plan.out.lines().count();
    assert!(count > 20, "{plan}");
    assert_eq!(
        plan.err,
        format!("{count} differences; `longshore broker apply` makes what is missing\n")
    );
    let check = shell.run("broker check").await.with_status(1);
    assert!(check.err.contains("is not as it should be"), "{check}");
    let apply = shell.run("broker apply").await.with_status(0);
    assert_eq!(
        (apply.out, apply.err),
        (plan.out, format!("{count} changes made\n"))
    );
    let plan = shell.run("broker plan").await.with_status(0);
    assert_eq!(
        (plan.out.as_str(), plan.err.as_str()),
        ("", "the broker is as it should be\n")
    );
    let json = shell.run("broker plan -o json").await.with_status(0);
    assert_eq!(json.json(), serde_json::json!([]));
    let check = shell.run("broker check").await;
    let is_listed = |line: &str| line.starts_with("trouble: ") || line.contains(" is ");
    assert!(check.err.lines().all(is_listed), "{check}");
    assert_eq!(
        check.status,
        i32::from(check.err.contains("trouble: ")),
        "{check}"
    );
}

#[tokio::test]
async fn definitions_need_no_broker() {
    let definitions = Shell::new().run("broker definitions").await.with_status(0);
    let kept = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/broker-config/definitions.json"
    ));
    let kept: serde_json::Value = serde_json::from_str(&kept.unwrap()).unwrap();
    assert_eq!(definitions.json(), kept);
}

#[tokio::test]
async fn a_management_interface_that_refuses_us_says_whom() {
    let rabbit = Rabbit::shared();
    let (scheme, rest) = rabbit.management().split_once("://").unwrap();
    let (_, host) = rest.split_once('@').unwrap();
    let shell = Shell::new()
        .with(
            "AMQP_URL",
            rabbit.amqp("longshore-admin", "planned-by-nobody"),
        )
        .with(
            "LONGSHORE_BROKER_MANAGEMENT_URL",
            format!("{scheme}://me:{PASSWORD}@{host}"),
        );
    insta::assert_snapshot!(shell.session(&["broker plan", "broker apply", "broker check"]).await, @r#"
    $ longshore broker plan
    ! error: the broker refuses the user `me`: wrong name, wrong password, or not tagged for management
    ! hint: check user and password in `LONGSHORE_BROKER_MANAGEMENT_URL`; `rabbitmqctl set_user_tags me administrator` gives the right
    = 1
    $ longshore broker apply
    ! error: the broker refuses the user `me`: wrong name, wrong password, or not tagged for management
    ! hint: check user and password in `LONGSHORE_BROKER_MANAGEMENT_URL`; `rabbitmqctl set_user_tags me administrator` gives the right
    = 1
    $ longshore broker check
    ! error: the broker refuses the user `me`: wrong name, wrong password, or not tagged for management
    ! hint: check user and password in `LONGSHORE_BROKER_MANAGEMENT_URL`; `rabbitmqctl set_user_tags me administrator` gives the right
    = 1
    "#);
}
