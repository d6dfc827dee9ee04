//! The demo over HTTP, as a user calls it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use larder_testing::cluster::Cluster;
use larder_testing::server::{Server, ServerOptions, Watched, required};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

struct Demo {
    child: Child,
    address: String,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder-demo"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).env("RUST_LOG", "off");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("http://")?.trim_end_matches('/').to_owned()));
        Self { child, address: address.expect("the demo prints its address") }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n{body}").unwrap();
        stream
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let mut text = String::new();
        self.send(method, path, body.as_ref()).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    fn post(&self, path: &str) -> Reply {
        self.call("POST", path, None)
    }

    /// The first figures that come after the call.
    fn figures(&self) -> Value {
        for line in BufReader::new(self.send("GET", "/events", None)).lines() {
            if let Some(figures) = line.unwrap().strip_prefix("data: ") {
                return serde_json::from_str(figures).unwrap();
            }
        }
        panic!("the events have ended");
    }

    fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let figures = self.figures();
            if condition(&figures) {
                return figures;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain until {what}: {figures}");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGTERM, so that a server it has started goes with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..3_000 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn says(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.starts_with(header))
    }
}

#[test]
fn an_instance_is_found_by_every_key_and_the_headers_say_where() {
    let demo = Demo::start(&[]);
    let loaded = demo.get("/instances/by-host/cedar-3.example");
    assert_eq!(loaded.status, 200);
    assert!(loaded.says("x-larder: load") && loaded.says("server-timing: lookup;dur="), "{}", loaded.head);
    assert_eq!(loaded.json()["id"], "i00003");
    for path in ["/instances/i00003", "/instances/by-host/login1.cedar-3.example"] {
        let hit = demo.get(path);
        assert!(hit.says("x-larder: hit"), "{}", hit.head);
        assert_eq!(hit.json(), loaded.json());
    }
    let missing = demo.get("/instances/by-host/nobody.example");
    assert_eq!(
        (missing.status, missing.json()["error"].as_str()),
        (404, Some("no instance has the host nobody.example"))
    );
}

#[test]
fn a_change_is_seen_by_every_key_at_once() {
    let demo = Demo::start(&[]);
    for path in ["/instances/i00003", "/instances/i00004"] {
        assert_eq!(demo.get(path).status, 200);
    }
    let hosts = json!(["damson-4.example", "login1.cedar-3.example"]);
    let put = demo.call("PUT", "/instances/i00004", Some(json!({ "hosts": hosts, "name": "New" })));
    assert_eq!(put.status, 200);
    assert!(put.says("x-larder-invalidation: applied"), "{}", put.head);
    let moved = demo.get("/instances/by-host/login1.cedar-3.example");
    assert!(moved.says("x-larder: hit"), "written through: {}", moved.head);
    assert_eq!((&moved.json()["id"], &moved.json()["name"]), (&json!("i00004"), &json!("New")));
    let former = demo.get("/instances/i00003");
    assert!(former.says("x-larder: load"), "{}", former.head);
    assert!(!former.body.contains("login1.cedar-3.example"));

    let made = demo.call("PUT", "/instances/fresh", Some(json!({ "hosts": ["fresh.example"] })));
    assert_eq!(made.status, 201);
    assert_eq!(demo.call("DELETE", "/instances/fresh", None).status, 204);
    assert_eq!(demo.get("/instances/by-host/fresh.example").status, 404);
    assert_eq!(demo.call("DELETE", "/instances/fresh", None).status, 404);
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let demo = Demo::start(&[]);
    for (body, status) in [(json!({ "nmae": "x" }), 422), (json!({ "hosts": [""] }), 422), (json!([1]), 422)] {
        let refused = demo.call("PUT", "/instances/i00004", Some(body));
        assert_eq!(refused.status, status, "{}", refused.body);
        assert!(!refused.json()["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(demo.call("PUT", "/instances/i00004", None).status, 415);
    assert_eq!(demo.post("/demo/server/kill").status, 409, "there is no server");
}

#[test]
fn a_load_that_cannot_be_reached_is_refused_and_the_one_before_stays() {
    // No load of an object ends while the load is tried.
    let demo = Demo::start(&["--database-latency", "10000"]);
    let ask =
        |lookups| demo.call("POST", "/demo/generator", Some(json!({ "on": true, "lookups": lookups, "changes": 0 })));
    let refused = ask(60_000);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.json()["error"].as_str().unwrap().contains("at most 50000"), "{}", refused.body);
    let refused = ask(5_000);
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.json()["error"].as_str().unwrap().contains("5000 lookups"), "{}", refused.body);
    assert_eq!(demo.figures()["generator"], json!({ "on": false, "lookups": 1_000, "changes": 2 }));
}

#[test]
fn a_server_that_is_not_there_is_one_line_and_the_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-demo"));
    command.args(["--listen", "127.0.0.1:0", "--redis", "redis://127.0.0.1:1"]).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    let logged = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{logged}");
    assert!(logged.contains("cannot use the server at 127.0.0.1:1") && logged.lines().count() == 1, "{logged}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn metrics_page_and_figures_show_what_happened() {
    let demo = Demo::start(&[]);
    demo.get("/instances/i00003");
    demo.get("/instances/i00003");
    let body = json!({ "on": true, "lookups": 500, "changes": 20 });
    assert_eq!(demo.call("POST", "/demo/generator", Some(body)).status, 200);
    let renamed = demo.post("/demo/instances/i00001/rename").json();
    assert_eq!((&renamed["stale"], &renamed["delivery"]), (&json!(0), &json!("applied")));
    let moved = demo.post("/demo/instances/i00003/move-host").json();
    assert_eq!((&moved["stale"], &moved["reads"]), (&json!(0), &json!(7)));
    let figures = demo.until("the generator reads", |figures| figures["lookups"].as_u64() > Some(500));
    assert_eq!((&figures["stale"], &figures["wrong"]), (&json!(0), &json!(0)));
    assert_eq!(figures["generator"], json!({ "on": true, "lookups": 500, "changes": 20 }));
    assert!(figures["checked"].as_u64() >= figures["lookups"].as_u64());

    let metrics = demo.get("/metrics").body;
    assert!(metrics.contains("larder_hits_total{cache=\"instance\"}"), "{metrics}");
    let page = demo.get("/").body;
    assert!(page.contains("\"connector\":\"memory\"") && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn the_page_s_buttons_break_redis_and_nothing_stale_is_served() {
    let demo = Demo::start(&["--connector", "redis"]);
    break_and_mend(&demo);
    assert_eq!(demo.post("/demo/server/flush").status, 200);
    all_is_well(&demo);
}

/// The memory of the node is shown, and serves nothing stale while its server is broken.
#[test]
fn the_page_s_buttons_break_the_server_behind_the_node_s_own_memory() {
    let demo = Demo::start(&["--connector", "tiered"]);
    let valid = |figures: &Value| figures["nodes"][0]["valid_for_ms"].as_u64() > Some(0);
    let figures = demo.until("the memory is read", valid);
    assert_eq!(figures["connector"], "tiered");
    assert!(figures["backend"].as_str().unwrap().starts_with("memory in front of "), "{figures}");
    assert_eq!(demo.get("/instances/i00003").status, 200);
    demo.until("an object is in the memory", |figures| figures["nodes"][0]["objects"].as_u64() > Some(0));
    break_and_mend(&demo);
    assert_eq!(demo.post("/demo/server/flush").status, 200);
    all_is_well(&demo);
    demo.until("the memory is read again", valid);
}

/// Both nodes keep the cache in memory, and the server knows of both.
fn followed(figures: &Value) -> bool {
    let nodes = figures["nodes"].as_array().unwrap();
    let followed = &figures["placement"]["followed"];
    let follow = followed["followers"].as_array().is_some_and(|followers| followers.len() == 2);
    nodes.len() == 2 && nodes.iter().all(|node| node["valid_for_ms"].as_u64() > Some(0)) && follow
}

/// The primary is killed while nodes read and change: another server takes over, and nothing stale is served.
fn another_takes_over(connector: &str) {
    let demo = Demo::start(&["--connector", connector]);
    let figures = demo.until("both nodes follow the cache", followed);
    assert_eq!((&figures["connector"], &figures["replicated"]), (&json!("tiered"), &json!(true)));
    assert_eq!(figures["placement"]["followed"]["consistency"], "strict");
    assert!(figures["file"].as_str().unwrap().contains("near: { kind: tiered, over: main }"), "{figures}");
    let killed = figures["placement"]["primary"].clone();

    let body = json!({ "on": true, "lookups": 100, "changes": 2 });
    assert_eq!(demo.call("POST", "/demo/generator", Some(body)).status, 200);
    assert_eq!(demo.post("/demo/server/kill").status, 200);
    let figures = demo.until("both nodes follow it on another server", |figures| {
        let primary = &figures["placement"]["primary"];
        primary.is_string() && *primary != killed && followed(figures) && figures["journal"] == 0
    });
    assert_eq!(figures["server"], "killed");
    assert_eq!(demo.post("/demo/server/restart").json()["server"], "running");
    let renamed = demo.post("/demo/instances/i00002/rename").json();
    assert_eq!(renamed["stale"], 0, "{renamed}");
    all_is_well(&demo);
}

#[test]
fn a_replica_takes_over_where_sentinels_watch_and_nothing_stale_is_served() {
    another_takes_over("tiered-sentinel");
}

#[test]
fn a_replica_takes_over_in_a_cluster_and_nothing_stale_is_served() {
    another_takes_over("tiered-cluster");
}

/// Two lines of the file say where objects are. The program is the same.
#[test]
fn one_file_moves_the_demo_from_memory_to_a_tier_over_a_cluster() {
    let runtime = Runtime::new().unwrap();
    let binary = required().unwrap().remove(0);
    let (server, watched, cluster) = runtime.block_on(async {
        let options = || ServerOptions::default();
        (
            Server::start(&binary, options()).await.unwrap(),
            Watched::start(&binary, options(), 3).await.unwrap(),
            Cluster::start(&binary, options(), 3, 1).await.unwrap(),
        )
    });
    let one = format!("socket: \"{}\"", server.socket().display());
    let sentinels = watched.sentinels.iter().map(|sentinel| format!("\"127.0.0.1:{}\"", sentinel.port().unwrap()));
    let sentinels = format!("sentinel: {{ master: mymaster, hosts: [{}] }}", sentinels.collect::<Vec<_>>().join(", "));
    let nodes = format!("address: \"{}\", cluster: [\"{}\"]", cluster.address(0), cluster.address(1));
    let path = format!("{}/larder.yaml", env!("CARGO_TARGET_TMPDIR"));
    for (main, connector, kind, backend) in [
        (&one, "memory", "memory", "memory"),
        (&one, "main", "redis", "the server at "),
        (&sentinels, "near", "tiered", "memory in front of the server at "),
        (&nodes, "near", "tiered", "memory in front of the cluster at "),
    ] {
        let text = format!(
            "connectors:\n  main: {{ kind: redis, {main}, operation_timeout: 5s }}\n  near: {{ kind: tiered, over: main }}\n\
             caches:\n  instance: {{ connector: {connector}, max_age: 1h }}\n"
        );
        std::fs::write(&path, &text).unwrap();
        let demo = Demo::start(&["--config", &path]);
        let figures = demo
            .until("it can be read", |figures| figures["readable"] == true && (kind != "tiered" || followed(figures)));
        assert_eq!(figures["connector"], kind, "{text}");
        assert!(figures["backend"].as_str().unwrap().starts_with(backend), "{figures}");
        assert!(demo.get("/instances/i00003").says("x-larder: load"), "{text}");
        assert!(demo.get("/instances/i00003").says("x-larder: hit"), "{text}");
        let renamed = demo.post("/demo/instances/i00003/rename").json();
        let nodes = if kind == "memory" { 1 } else { 2 };
        assert_eq!(
            (&renamed["stale"], &renamed["delivery"], &renamed["nodes"]),
            (&json!(0), &json!("applied"), &json!(nodes))
        );
    }
    let masters = [&server, &watched.master].into_iter().chain(cluster.nodes().iter().take(3));
    for master in masters {
        let left = runtime.block_on(master.keys("*")).unwrap();
        assert!(left.is_empty(), "the demo's own keys are removed: {left:?}");
    }
}

#[test]
fn the_page_s_buttons_break_postgres_and_nothing_stale_is_served() {
    let demo = Demo::start(&["--connector", "postgres"]);
    break_and_mend(&demo);
    let refused = demo.post("/demo/server/flush");
    assert_eq!(refused.status, 409, "PostgreSQL has nothing to flush: {}", refused.body);
    all_is_well(&demo);
}

fn break_and_mend(demo: &Demo) {
    demo.until("it is connected", |figures| figures["readable"] == true);
    let body = json!({ "on": true, "lookups": 1000, "changes": 10 });
    assert_eq!(demo.call("POST", "/demo/generator", Some(body)).status, 200);
    for (broken, mended) in [("stop", "continue"), ("kill", "restart")] {
        assert_eq!(demo.post(&format!("/demo/server/{broken}")).status, 200);
        let figures = demo
            .until("a trial is due", |figures| figures["readable"] == false && figures["next_trial_ms"].is_number());
        assert_eq!(figures["hit"], Value::Null, "what the cache took before is not what it takes now: {figures}");
        let renamed = demo.post("/demo/instances/i00002/rename").json();
        assert_eq!((&renamed["stale"], &renamed["delivery"]), (&json!(0), &json!("deferred")));
        assert!(demo.figures()["journal"].as_u64() > Some(0));
        let link = demo.post(&format!("/demo/server/{mended}")).json();
        assert_eq!(link["server"], "running", "and how it stands is told at once: {link}");
        assert!(link["readable"] == true || link["next_trial_ms"].is_u64() || link["breaker"] != "open", "{link}");
        let figures = demo.until("all is well", |figures| figures["readable"] == true && figures["journal"] == 0);
        assert!(figures["deferred"].as_u64() >= renamed["deferred"].as_u64(), "the cache was told of this change");
        assert!(figures["replayed"].as_u64() > Some(0));
    }
}

fn all_is_well(demo: &Demo) {
    assert_eq!(demo.post("/demo/instances/i00002/move-host").json()["stale"], 0);
    let figures =
        demo.until("it is read again", |figures| figures["readable"] == true && figures["breaker"] == "closed");
    assert_eq!((&figures["stale"], &figures["wrong"], &figures["fault"]), (&json!(0), &json!(0), &Value::Null));
    let metrics = demo.get("/metrics").body;
    assert!(metrics.contains("larder_breaker_opened_total"), "{metrics}");
}

#[test]
fn a_change_by_sql_reaches_both_nodes_and_one_that_is_cut_off_serves_nothing_old() {
    let demo = Demo::start(&["--feed"]);
    let in_memory = |figures: &Value| {
        let row = &figures["rows"][1];
        let same = |limit: &Value| *limit == row["user_limit"];
        row["in_memory"].as_array().unwrap().iter().all(same)
    };
    let knew = |figures: &Value, node: usize| figures["changes"][0]["nodes"][node]["knew_ms"].is_number();
    demo.until("both nodes have it in memory", in_memory);
    let change = demo.post("/demo/instances/i00002/change").json();
    assert_eq!((&change["id"], &change["user_limit"]), (&json!("i00002"), &json!(101)));
    demo.until("both nodes know", |figures| knew(figures, 0) && knew(figures, 1));
    demo.until("both nodes have it in memory again", in_memory);

    assert_eq!(demo.post("/demo/nodes/2/cut-off").status, 200);
    assert_eq!(demo.post("/demo/instances/i00002/change").json()["user_limit"], 102);
    let figures = demo.until("node 1 knows, and node 2 reads its memory no more", |figures| {
        knew(figures, 0) && figures["nodes"][1]["reads"] == false && figures["rows"][1]["in_memory"][1].is_null()
    });
    assert!(!knew(&figures, 1), "{figures}");
    assert_eq!(figures["nodes"][1]["cut_off"], true);
    assert_eq!(demo.post("/demo/nodes/2/connect").status, 200);
    demo.until("node 2 knows, too", |figures| knew(figures, 1) && figures["nodes"][1]["reads"] == true);
    let figures = demo.until("both nodes have the new state in memory", in_memory);
    assert_eq!((&figures["nodes"][0]["stale"], &figures["nodes"][1]["stale"]), (&json!(0), &json!(0)));

    for path in
        ["/demo/instances/nobody/change", "/demo/nodes/3/cut-off", "/demo/nodes/0/connect", "/demo/nodes/1/kill"]
    {
        assert_eq!(demo.post(path).status, 404, "{path}");
    }
    let page = demo.get("/").body;
    assert!(page.contains("\"server\":\"PostgreSQL ") && page.contains("--ground") && !page.contains("https://"));
}
