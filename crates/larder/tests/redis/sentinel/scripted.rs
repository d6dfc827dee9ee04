//! [`Sentinel`]: a Sentinel that says what a test says, and two servers that take no part in it.

use crate::node::{Node, config, servers, until};
use larder::connector::redis::{RedisOptions, SentinelOptions};
use larder_testing::server::{Reply, ScriptedServer, Server, ServerOptions};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a Sentinel says: the port of the master, the config epoch, and for how long it has said so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) port: u16,
    pub(super) epoch: u64,
    pub(super) since: Duration,
}

const LONG: Duration = Duration::from_secs(100_000);

impl Said {
    /// It has said so for long.
    pub(super) fn of(server: &Server, epoch: u64) -> Self {
        Self { port: server.port().unwrap(), epoch, since: LONG }
    }
}

/// A Sentinel that says what a test says.
pub(super) struct Sentinel {
    server: ScriptedServer,
    state: Arc<Mutex<State>>,
}

struct State {
    /// `None`: it does not answer.
    says: Option<Said>,
    asked: u64,
}

impl Sentinel {
    pub(super) async fn start(says: Said) -> Self {
        let state = Arc::new(Mutex::new(State { says: Some(says), asked: 0 }));
        let shared = state.clone();
        let server = ScriptedServer::start(move |words| answer(words, &mut shared.lock().unwrap())).await.unwrap();
        Self { server, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(super) fn says(&self, says: Said) {
        self.state.lock().unwrap().says = Some(says);
    }

    pub(super) fn falls_silent(&self) {
        self.state.lock().unwrap().says = None;
    }

    pub(super) fn asked(&self) -> u64 {
        self.state.lock().unwrap().asked
    }
}

fn answer(words: &[Vec<u8>], state: &mut State) -> Vec<u8> {
    let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).to_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(Said { port, epoch, since }) = state.says else { return Vec::new() };
    let (port, epoch, since) = (port.to_string(), epoch.to_string(), since.as_millis().to_string());
    match words.as_slice() {
        ["sentinel", "master", "mymaster"] => {
            state.asked += 1;
            Reply::command(&[
                "name",
                "mymaster",
                "ip",
                "127.0.0.1",
                "port",
                &port,
                "role-reported-time",
                &since,
                "config-epoch",
                &epoch,
            ])
            .encode()
        }
        ["sentinel", "get-master-addr-by-name", "mymaster"] => Reply::command(&["127.0.0.1", &port]).encode(),
        other => Reply::Error(format!("ERR unknown command {other:?}")).encode(),
    }
}

/// Two servers of a kind, and Sentinels that all name the first.
pub(super) struct Scene {
    pub(super) first: Server,
    pub(super) second: Server,
    pub(super) sentinels: Vec<Sentinel>,
}

impl Scene {
    /// With so many Sentinels, for each installed server.
    pub(super) async fn all(sentinels: usize) -> Vec<Self> {
        let mut scenes = Vec::new();
        let firsts = servers(ServerOptions::default().tcp()).await;
        for (first, second) in firsts.into_iter().zip(servers(ServerOptions::default().tcp()).await) {
            let mut scene = Self { first, second, sentinels: Vec::new() };
            for _ in 0..sentinels {
                scene.sentinels.push(Sentinel::start(Said::of(&scene.first, 0)).await);
            }
            scenes.push(scene);
        }
        scenes
    }

    pub(super) fn sentinel_options(&self) -> SentinelOptions {
        let options = SentinelOptions::new("mymaster");
        self.sentinels.iter().fold(options, |options, sentinel| options.host("127.0.0.1", sentinel.port()))
    }

    pub(super) fn options(&self) -> RedisOptions {
        watching(self.sentinel_options())
    }

    /// A node that can read.
    pub(super) async fn node(&self) -> Node {
        let node = Node::begin(self.options());
        node.readable().await;
        node
    }

    /// Every Sentinel says this from now on.
    pub(super) fn all_say(&self, said: Said) {
        self.sentinels.iter().for_each(|sentinel| sentinel.says(said));
    }

    /// Waits until each Sentinel was asked so many times more.
    pub(super) async fn asked(&self, times: u64) {
        let all: Vec<usize> = (0..self.sentinels.len()).collect();
        self.asked_of(&all, times).await;
    }

    /// The same for some of them.
    pub(super) async fn asked_of(&self, places: &[usize], times: u64) {
        let asked = |place: &usize| self.sentinels[*place].asked();
        let before: Vec<u64> = places.iter().map(asked).collect();
        until("the Sentinels were asked", || {
            places.iter().zip(&before).all(|(place, before)| asked(place) >= before + times)
        })
        .await;
    }
}

/// The options of the other tests, for the master that these Sentinels know.
pub(super) fn watching(sentinels: SentinelOptions) -> RedisOptions {
    let mut options = config(Path::new("/not/used")).client_name(CLIENT).sentinel(sentinels);
    // A server that was refused is tried again at once.
    options.breaker.open_refused = Duration::from_millis(50);
    options
}

const CLIENT: &str = "larder-test";

/// How many connections of larder's the server has.
pub(super) async fn connections(server: &Server) -> usize {
    let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
    let list = String::from_utf8_lossy(list.bytes().unwrap()).into_owned();
    list.lines().filter(|line| line.contains(&format!("name={CLIENT} "))).count()
}
