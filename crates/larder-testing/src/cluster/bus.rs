//! [`Bus`]: what the nodes of a cluster say to each other goes through a proxy before each node, so that one node can be cut off from the others.
//!
//! A node opens a connection to each other node, sends its own packets over it, and gets the answers to those. So what one node sends comes through the
//! proxies of all others, and is told by its name in the head of each packet.

use crate::proxy::{Direction, Fault, Proxy};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// How a packet begins, and where the name of its sender is.
const MAGIC: &[u8] = b"RCmb";
const SENDER: usize = 40;

/// The proxies, one before each node.
#[derive(Debug, Default)]
pub(super) struct Bus(Vec<Proxy>);

impl Bus {
    /// Puts a proxy before the next node, which listens on this port for the others. Returns the port that the others are to be told.
    pub(super) async fn before(&mut self, port: u16) -> io::Result<u16> {
        let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let told = proxy.port();
        self.0.push(proxy);
        Ok(told)
    }

    /// The port that others are told of this node. `None`: there are no proxies.
    pub(super) fn port(&self, node: usize) -> Option<u16> {
        self.0.get(node).map(Proxy::port)
    }

    /// From now on nothing reaches this node, and nothing that it sends reaches another one. `name`: the node's.
    pub(super) fn cut_off(&self, node: usize, name: &str) {
        for (place, proxy) in self.0.iter().enumerate() {
            if place == node {
                proxy.set_both(Fault::rewrite(|_| Vec::new()));
            } else {
                let name = name.to_owned();
                let others = move |bytes: Vec<u8>| if is_from(&bytes, &name) { Vec::new() } else { bytes };
                proxy.set(Direction::ToServer, Fault::rewrite(others));
            }
        }
    }

    /// All reach each other again.
    pub(super) fn join(&self) {
        self.0.iter().for_each(|proxy| proxy.set_both(Fault::Pass));
    }
}

/// Whether a packet begins here that this node has sent.
fn is_from(bytes: &[u8], name: &str) -> bool {
    bytes.starts_with(MAGIC) && bytes.get(SENDER..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
}
