//! Most tests use a listener of their own as the server, which shows every byte.

use super::*;
use crate::server::{Reply, ServerOptions, required};
use std::error::Error;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::time::timeout;

type Outcome = Result<(), Box<dyn Error>>;

/// How long a test waits to see that bytes do not come through: long enough for bytes that would come.
const SILENCE: Duration = Duration::from_millis(50);

/// A listener in the place of a server, and a proxy in front of it.
struct Setup {
    proxy: Proxy,
    listener: UnixListener,
    _folder: TempDir,
}

impl Setup {
    async fn new() -> io::Result<Setup> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket)?;
        let proxy = Proxy::start(socket.as_path()).await?;
        Ok(Setup { proxy, listener, _folder: folder })
    }

    /// Both ends of a new connection: the client's, the server's.
    async fn connection(&self) -> io::Result<(UnixStream, UnixStream)> {
        let client = UnixStream::connect(self.proxy.socket()).await?;
        Ok((client, self.listener.accept().await?.0))
    }
}

async fn read_exactly(stream: &mut UnixStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_to_end(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(bytes),
    }
}

async fn is_silent(stream: &mut UnixStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_an_end_ends_the_other() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    let large: Vec<u8> = (0..1_000_000).map(|n: u32| n.to_be_bytes()[3]).collect();
    let sent = large.clone();
    let sending = tokio::spawn(async move {
        client.write_all(&sent).await?;
        client.shutdown().await?;
        Ok::<_, io::Error>(client)
    });
    assert_eq!(read_to_end(&mut server).await?, large);
    drop(sending.await??);

    let (mut client, mut server) = setup.connection().await?;
    server.write_all(b"bye").await?;
    drop(server);
    assert_eq!(read_to_end(&mut client).await?, b"bye");
    Ok(())
}

#[tokio::test]
async fn a_real_server_answers_through_it_by_port_and_by_socket() -> Outcome {
    for binary in required()? {
        let server = Server::start(&binary, ServerOptions::default().tcp()).await?;
        let by_socket = Proxy::start(&server).await?;
        let by_port = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port().ok_or("no port")?))).await?;
        for proxy in [by_socket, by_port] {
            let unix: Stream = Box::new(UnixStream::connect(proxy.socket()).await?);
            let tcp: Stream = Box::new(TcpStream::connect(("127.0.0.1", proxy.port())).await?);
            for stream in [unix, tcp] {
                let mut stream = BufReader::new(stream);
                stream.write_all(&Reply::command(&["PING"]).encode()).await?;
                assert_eq!(Reply::read(&mut stream).await?, Reply::Status("PONG".into()));
            }
        }
    }
    Ok(())
}

/// This test waits only for timers, and the paused clock jumps from timer to timer. So the clock shows how long the proxy has waited,
/// however busy the machine is.
#[tokio::test(start_paused = true)]
async fn a_delay_keeps_the_order_and_is_not_paid_again_by_each_chunk() -> Outcome {
    const CHUNKS: u32 = 50;
    let delay = Duration::from_millis(100);
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    setup.proxy.set(Direction::ToServer, Fault::Delay(delay));
    let start = Instant::now();
    let sending = async {
        for number in 0..CHUNKS {
            client.write_all(&[number as u8]).await?;
            // A pause, so that the proxy does not read all bytes at once. The test would then pass without proving anything.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        io::Result::Ok(())
    };
    let receiving = async {
        let first = server.read_u8().await?;
        let elapsed = start.elapsed();
        Ok::<_, io::Error>((first, elapsed, read_exactly(&mut server, CHUNKS as usize - 1).await?))
    };
    let (sent, received) = tokio::join!(sending, receiving);
    sent?;
    let (first, elapsed, rest) = received?;
    assert!(elapsed >= delay, "{elapsed:?}");
    assert_eq!((first, rest), (0, (1..CHUNKS as u8).collect()));
    assert!(start.elapsed() < delay * CHUNKS, "{:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_delay_in_one_direction_leaves_the_other_alone_and_is_not_overtaken() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    setup.proxy.set(Direction::ToServer, Fault::Delay(Duration::from_secs(3600)));
    client.write_all(b"late").await?;
    server.write_all(b"back").await?;
    assert_eq!(read_exactly(&mut client, 4).await?, b"back");
    assert!(is_silent(&mut server).await);
    setup.proxy.set(Direction::ToServer, Fault::Pass);
    client.write_all(b"after").await?;
    assert!(is_silent(&mut server).await);
    Ok(())
}

#[tokio::test]
async fn held_bytes_meet_the_next_fault() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    setup.proxy.set(Direction::ToServer, Fault::Hold);
    client.write_all(b"held").await?;
    assert!(is_silent(&mut server).await);
    setup.proxy.set(Direction::ToServer, Fault::Hold);
    assert!(is_silent(&mut server).await);
    setup.proxy.set(Direction::ToServer, Fault::rewrite(|bytes| bytes.to_ascii_uppercase()));
    assert_eq!(read_exactly(&mut server, 4).await?, b"HELD");
    Ok(())
}

#[tokio::test]
async fn a_black_hole_swallows_bytes_and_ends_and_gives_nothing_back() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    let (mut idle, mut idle_server) = setup.connection().await?;
    setup.proxy.set_both(Fault::Blackhole);
    client.write_all(b"lost").await?;
    assert!(is_silent(&mut server).await);
    drop(server);
    assert!(is_silent(&mut client).await, "the client must not learn that the server is gone");

    setup.proxy.set_both(Fault::Pass);
    client.write_all(b"late").await?;
    assert!(is_silent(&mut client).await);
    idle.write_all(b"fine").await?;
    assert_eq!(read_exactly(&mut idle_server, 4).await?, b"fine");
    Ok(())
}

#[tokio::test]
async fn a_probe_ends_what_is_half_open_and_nothing_else() -> Outcome {
    let setup = Setup::new().await?;
    let (client, mut server) = setup.connection().await?;
    let (mut open, mut open_server) = setup.connection().await?;
    setup.proxy.set(Direction::ToServer, Fault::Blackhole);
    drop(client);
    assert!(is_silent(&mut server).await);
    setup.proxy.set(Direction::ToServer, Fault::Pass);
    assert!(is_silent(&mut server).await, "the server must not learn yet that the client is gone");
    let probing = async {
        loop {
            setup.proxy.probe();
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::select! {
        ended = read_to_end(&mut server) => ended?,
        () = probing => Vec::new(),
    };
    assert_eq!(ended, b"");
    open.write_all(b"open").await?;
    assert_eq!(read_exactly(&mut open_server, 4).await?, b"open");
    Ok(())
}

#[tokio::test]
async fn a_black_hole_hides_that_nobody_listens() -> Outcome {
    let setup = Setup::new().await?;
    let proxy = &setup.proxy;
    proxy.redirect(Path::new("/nonexistent/socket"));
    let mut client = UnixStream::connect(proxy.socket()).await?;
    assert_eq!(read_to_end(&mut client).await?, b"");
    proxy.set_both(Fault::Blackhole);
    let mut client = UnixStream::connect(proxy.socket()).await?;
    assert!(is_silent(&mut client).await);
    Ok(())
}

#[tokio::test]
async fn corruption_depends_on_the_seed_and_not_on_the_chunks() -> Outcome {
    const COUNT: usize = 10_000;
    let setup = Setup::new().await?;
    let mut results = Vec::new();
    for (seed, chunk) in [(1, COUNT), (1, 7), (2, COUNT)] {
        let (mut client, mut server) = setup.connection().await?;
        setup.proxy.set(Direction::ToClient, Fault::Corrupt { seed, one_in: 100 });
        let writing = async {
            for piece in [0; COUNT].chunks(chunk) {
                server.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            io::Result::Ok(())
        };
        let (written, bytes) = tokio::join!(writing, read_exactly(&mut client, COUNT));
        written?;
        results.push(bytes?);
    }
    let changed = results[0].iter().filter(|byte| **byte != 0).count();
    assert!((50..200).contains(&changed), "{changed} of {COUNT} bytes changed");
    assert_eq!(results[0], results[1]);
    assert_ne!(results[0], results[2]);
    Ok(())
}

#[tokio::test]
async fn a_truncated_connection_has_just_so_many_bytes() -> Outcome {
    let setup = Setup::new().await?;
    for after in [0, 1, 5] {
        setup.proxy.set(Direction::ToClient, Fault::Truncate { after });
        let (mut client, mut server) = setup.connection().await?;
        server.write_all(b"$3\r").await?;
        server.write_all(b"\nfoo\r\n").await?;
        assert_eq!(read_to_end(&mut client).await?, b"$3\r\nfoo\r\n"[..after as usize]);
    }
    Ok(())
}

#[tokio::test]
async fn chopped_bytes_arrive_in_pieces() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    setup.proxy.set(Direction::ToClient, Fault::Chop);
    server.write_all(b"+OK\r\n").await?;
    let (mut all, mut pieces) = (Vec::new(), 0);
    while all.len() < 5 {
        client.read_buf(&mut all).await?;
        pieces += 1;
    }
    assert_eq!(all, b"+OK\r\n");
    assert!(pieces > 1, "all in {pieces}");
    Ok(())
}

#[tokio::test]
async fn a_closure_rewrites_each_chunk_or_drops_it() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    setup.proxy.set(
        Direction::ToClient,
        Fault::rewrite(move |bytes| {
            count.fetch_add(bytes.len(), Ordering::Relaxed);
            if bytes == b"drop" { Vec::new() } else { b"-READONLY\r\n".to_vec() }
        }),
    );
    server.write_all(b"drop").await?;
    while seen.load(Ordering::Relaxed) < 4 {
        tokio::task::yield_now().await;
    }
    server.write_all(b"+OK\r\n").await?;
    assert_eq!(read_exactly(&mut client, 11).await?, b"-READONLY\r\n");
    // The other direction is left alone.
    client.write_all(b"drop").await?;
    assert_eq!(read_exactly(&mut server, 4).await?, b"drop");
    Ok(())
}

#[tokio::test]
async fn dropped_connections_are_closed_on_both_sides_and_new_ones_are_not() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    setup.proxy.set_both(Fault::Blackhole);
    client.write_all(b"lost").await?;
    setup.proxy.drop_connections().await;
    assert_eq!(read_to_end(&mut client).await?, b"");
    assert_eq!(read_to_end(&mut server).await?, b"");

    setup.proxy.set_both(Fault::Pass);
    let (mut client, mut server) = setup.connection().await?;
    client.write_all(b"new").await?;
    assert_eq!(read_exactly(&mut server, 3).await?, b"new");
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_is_refused_and_open_ones_stay() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    for _ in 0..3 {
        setup.proxy.refuse().await;
        setup.proxy.refuse().await;
        let by_port = TcpStream::connect(("127.0.0.1", setup.proxy.port())).await;
        assert_eq!(by_port.map_err(|error| error.kind()).err(), Some(ErrorKind::ConnectionRefused));
        let by_socket = UnixStream::connect(setup.proxy.socket()).await;
        assert_eq!(by_socket.map_err(|error| error.kind()).err(), Some(ErrorKind::ConnectionRefused));
        client.write_all(b"open").await?;
        assert_eq!(read_exactly(&mut server, 4).await?, b"open");

        setup.proxy.accept().await?;
        setup.proxy.accept().await?;
        setup.connection().await?;
        TcpStream::connect(("127.0.0.1", setup.proxy.port())).await?;
        setup.listener.accept().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_redirected_proxy_leads_new_connections_elsewhere() -> Outcome {
    let (old, new) = (Setup::new().await?, Setup::new().await?);
    let (mut client, mut server) = old.connection().await?;
    old.proxy.redirect(new.proxy.socket());
    let mut moved = UnixStream::connect(old.proxy.socket()).await?;
    let (mut elsewhere, _) = new.listener.accept().await?;
    moved.write_all(b"new").await?;
    assert_eq!(read_exactly(&mut elsewhere, 3).await?, b"new");
    client.write_all(b"old").await?;
    assert_eq!(read_exactly(&mut server, 3).await?, b"old");
    Ok(())
}

#[tokio::test]
async fn all_connections_end_with_the_proxy() -> Outcome {
    let setup = Setup::new().await?;
    let (mut client, mut server) = setup.connection().await?;
    let socket = setup.proxy.socket().to_owned();
    drop(setup.proxy);
    assert_eq!(read_to_end(&mut client).await?, b"");
    assert_eq!(read_to_end(&mut server).await?, b"");
    assert!(UnixStream::connect(socket).await.is_err());
    Ok(())
}
