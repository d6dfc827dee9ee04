//! Each test runs on every server of this machine.

use super::*;
use std::error::Error;
use std::future::Future;
use std::os::unix::fs::FileTypeExt;

type Outcome = Result<(), Box<dyn Error>>;

async fn on_every_server<F: Future<Output = Outcome>>(options: ServerOptions, test: impl Fn(Server) -> F) -> Outcome {
    for binary in required()? {
        let server = Server::start(&binary, options.clone()).await?;
        test(server).await.map_err(|error| format!("on {binary}: {error}"))?;
    }
    Ok(())
}

/// The letter that stands for a process's state in its stat file. `None`: there is no such process.
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn ok(reply: &Reply) -> bool {
    *reply == Reply::Status("OK".into())
}

#[tokio::test]
async fn any_bytes_go_in_and_come_out() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        let all: Vec<u8> = (0..=255).collect();
        assert!(ok(&server.command(&[b"SET", all.as_slice(), &all]).await?));
        assert_eq!(server.command(&[b"GET", all.as_slice()]).await?, Reply::Bulk(all.clone()));
        assert_eq!(server.keys("*").await?, [all]);
        assert_eq!(server.command(&["GET", "other"]).await?, Reply::Nil);
        assert!(matches!(server.command(&["NONSENSE"]).await?, Reply::Error(line) if line.starts_with("ERR ")));
        server.flushall().await?;
        assert_eq!(server.command(&["DBSIZE"]).await?.int(), Some(0));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopped_server_is_stopped_when_stop_returns() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        let pid = server.pid().ok_or("no pid")?;
        for _ in 0..100 {
            server.stop()?;
            assert_eq!(state_of(pid), Some('T'));
            server.stop()?;
            server.cont()?;
            assert_ne!(state_of(pid), Some('T'));
        }
        server.stop()?;
        let mut connection = Connection::open(server.socket()).await?;
        let silent = timeout(Duration::from_millis(50), connection.exchange(&["PING"])).await;
        assert!(silent.is_err(), "{silent:?}");
        server.cont()?;
        assert_eq!(server.command(&["PING"]).await?, Reply::Status("PONG".into()));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_server_is_gone_and_a_restarted_one_is_where_it_was() -> Outcome {
    on_every_server(ServerOptions::default().tcp(), |server| async move {
        let (pid, port) = (server.pid().ok_or("no pid")?, server.port().ok_or("no port")?);
        server.command(&["SET", "key", "value"]).await?;
        server.stop()?;
        server.kill();
        server.kill();
        assert_eq!((state_of(pid), server.pid()), (None, None));
        assert!(matches!(server.stop(), Err(ServerError::Down)));
        assert!(matches!(server.command(&["PING"]).await, Err(ServerError::NoAnswer { .. })));
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());

        server.restart().await?;
        assert_ne!(server.pid(), Some(pid));
        assert_eq!((server.port(), server.url()), (Some(port), format!("redis://127.0.0.1:{port}")));
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert_eq!(server.command(&["GET", "key"]).await?, Reply::Nil);

        server.restart_with(ServerOptions::default()).await?;
        assert_eq!(server.port(), None);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        server.restart_with(ServerOptions::default().tcp()).await?;
        assert_eq!(server.port(), Some(port));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_ended_by_itself_is_down_and_can_be_restarted() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        assert!(server.command(&["SHUTDOWN", "NOSAVE"]).await.is_err());
        // The socket is closed a moment before the process ends.
        while server.pid().is_some() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(server.stop(), Err(ServerError::Down)));
        server.restart().await?;
        assert!(server.pid().is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_persistent_server_keeps_its_data_over_a_restart_and_goes_back_when_killed() -> Outcome {
    on_every_server(ServerOptions::default().persistent(), |server| async move {
        server.command(&["SET", "key", "saved"]).await?;
        server.stop()?;
        server.restart().await?;
        assert_eq!(server.command(&["GET", "key"]).await?, Reply::Bulk(b"saved".to_vec()));

        server.command(&["SET", "key", "lost"]).await?;
        server.kill();
        server.restart().await?;
        assert_eq!(server.command(&["GET", "key"]).await?, Reply::Bulk(b"saved".to_vec()));

        server.command(&["SET", "key", "saved again"]).await?;
        server.shutdown_save().await?;
        assert_eq!(server.pid(), None);
        server.restart().await?;
        assert_eq!(server.command(&["GET", "key"]).await?, Reply::Bulk(b"saved again".to_vec()));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_test_cannot_lock_itself_out() -> Outcome {
    let options = ServerOptions::default().config("requirepass secret").config("user reader on >word ~* -@all +get");
    on_every_server(options.databases(2), |server| async move {
        let mut stranger = Connection::open(server.socket()).await?;
        assert!(matches!(stranger.command(&["GET", "key"]).await?, Reply::Error(line) if line.starts_with("NOAUTH ")));
        stranger.accepted(&["AUTH", "reader", "word"]).await?;
        assert_eq!(stranger.command(&["GET", "key"]).await?, Reply::Nil);
        assert!(matches!(stranger.command(&["DEL", "key"]).await?, Reply::Error(line) if line.starts_with("NOPERM ")));

        server.config_set("requirepass", "another").await?;
        server.command(&["ACL", "SETUSER", "default", "off"]).await?;
        assert!(ok(&server.command(&["SET", "key", "value"]).await?));
        let mut connection = server.connect().await?;
        assert!(ok(&connection.command(&["SELECT", "1"]).await?));
        assert!(matches!(connection.command(&["SELECT", "2"]).await?, Reply::Error(_)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn client_kill_all_closes_every_connection_but_its_own() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        let (mut idle, mut listening) = (server.connect().await?, server.connect().await?);
        // The server may not have noticed yet that those who waited for it to start have hung up.
        let mut watching = server.connect().await?;
        loop {
            let Reply::Bulk(clients) = watching.command(&["INFO", "clients"]).await? else { continue };
            if String::from_utf8_lossy(&clients).contains("connected_clients:3\r") {
                break;
            }
        }
        listening.accepted(&["SUBSCRIBE", "channel"]).await?;
        assert_eq!(server.client_kill_all().await?, 3);
        assert!(idle.command(&["PING"]).await.is_err());
        assert!(listening.command(&["PING"]).await.is_err());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scripts_settings_and_figures() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        let loaded = server.command(&["SCRIPT", "LOAD", "return 7"]).await?;
        let name = loaded.bytes().ok_or("no name")?;
        assert_eq!(server.command(&[b"EVALSHA", name, b"0"]).await?, Reply::Int(7));
        server.script_flush().await?;
        let gone = server.command(&[b"EVALSHA", name, b"0"]).await?;
        assert!(matches!(&gone, Reply::Error(line) if line.starts_with("NOSCRIPT")), "{gone:?}");

        server.config_set("maxmemory", "3mb").await?;
        assert_eq!(server.info("memory").await?["maxmemory"], "3145728");
        let refused = server.config_set("maxmemory", "plenty").await;
        assert!(matches!(&refused, Err(ServerError::Refused { command, .. }) if command == "CONFIG"), "{refused:?}");

        let before = server.used_cpu().await?;
        server.command(&["EVAL", "local n = 0 while n < 5000000 do n = n + 1 end return n", "0"]).await?;
        assert!(server.used_cpu().await? > before + Duration::from_millis(1));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() -> Outcome {
    for binary in required()? {
        let error =
            Server::start(&binary, ServerOptions::default().config("nonsense yes")).await.err().ok_or("it started")?;
        assert!(matches!(&error, ServerError::Start { log, .. } if log.contains("nonsense")), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_server_not_even_after_a_panic() -> Outcome {
    on_every_server(ServerOptions::default(), |server| async move {
        server.stop()?;
        let (pid, folder) = (server.pid().ok_or("no pid")?, server.folder.path().to_owned());
        assert!(fs::metadata(server.socket())?.file_type().is_socket());
        let panicked = tokio::spawn(async move {
            let _server = server;
            std::panic::resume_unwind(Box::new("as a failed assertion does"));
        });
        assert!(panicked.await.is_err_and(|error| error.is_panic()));
        assert_eq!((state_of(pid), folder.exists()), (None, false));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() -> Outcome {
    for binary in required()? {
        let folder = tempfile::tempdir()?;
        let (pid_file, elsewhere) = (folder.path().join("pid"), folder.path().join("other.sock"));
        // The server listens on another socket than the start asks, so that the start cannot succeed before it is given up.
        let options = ServerOptions::default()
            .config(format!("pidfile {}", pid_file.display()))
            .config(format!("unixsocket {}", elsewhere.display()));
        let runs = async {
            loop {
                if let Ok(pid) = fs::read_to_string(&pid_file).unwrap_or_default().trim().parse::<u32>() {
                    return pid;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        let pid = tokio::select! {
            started = Server::start(&binary, options) => return Err(format!("{started:?}").into()),
            pid = runs => pid,
        };
        assert_eq!(state_of(pid), None);
    }
    Ok(())
}

/// The threads of a runtime end long before the process does. They must not take the servers along that they started.
#[test]
fn a_server_outlives_the_thread_that_started_it() -> Outcome {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    for binary in required()? {
        let started = std::thread::spawn(move || {
            let start = async { Server::start(&binary, ServerOptions::default()).await };
            runtime().map(|runtime| runtime.block_on(start))
        });
        let server = started.join().map_err(|_| "the thread panicked")???;
        let pid = server.pid().ok_or("no pid")?;
        assert_eq!(runtime()?.block_on(server.command(&["PING"]))?, Reply::Status("PONG".into()));
        assert_eq!(server.pid(), Some(pid));
    }
    Ok(())
}
