//! [`Announced`]: other ports in what servers tell clients about each other.
//!
//! A client of a cluster, or of Sentinels, connects to the addresses that it is told. So a proxy before such a server has to tell the addresses of
//! other proxies, or the client would go past them.

/// The local host, as servers of tests are known to each other.
const HOST: &str = "127.0.0.1";

/// Which bytes stand for which others.
#[derive(Debug, Default)]
pub(super) struct Announced(Vec<(Vec<u8>, Vec<u8>)>);

impl Announced {
    /// In the place of each first port the second one is told.
    pub(super) fn new(ports: &[(u16, u16)]) -> Self {
        Self(ports.iter().flat_map(|(from, to)| forms(*from).into_iter().zip(forms(*to))).collect())
    }

    /// The bytes as a client is to see them. An address that a chunk holds only a part of stays as it is: then the client goes past a proxy.
    pub(super) fn told(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (from, to) in &self.0 {
            let mut at = 0;
            while let Some(found) = bytes.get(at..).and_then(|rest| find(rest, from)) {
                at += found;
                bytes.splice(at..at + from.len(), to.iter().copied());
                at += to.len();
            }
        }
        bytes
    }
}

/// How servers write a port: in MOVED and ASK, in CLUSTER SLOTS, in SENTINEL GET-MASTER-ADDR-BY-NAME, and in SENTINEL MASTER. Each with what is
/// around it: the number alone may be anything.
fn forms(port: u16) -> [Vec<u8>; 4] {
    let text = port.to_string();
    let bulk = format!("${}\r\n{text}\r\n", text.len());
    [
        format!(" {HOST}:{text}\r\n"),
        format!("{HOST}\r\n:{text}\r\n"),
        format!("{HOST}\r\n{bulk}"),
        format!("\r\nport\r\n{bulk}"),
    ]
    .map(String::into_bytes)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_and_numbers_are_not() {
        let announced = Announced::new(&[(16_001, 20_001), (16_002, 9_002)]);
        for (said, told) in [
            ("-MOVED 16001 127.0.0.1:16001\r\n", "-MOVED 16001 127.0.0.1:20001\r\n"),
            ("-ASK 7 127.0.0.1:16002\r\n$2\r\nok\r\n", "-ASK 7 127.0.0.1:9002\r\n$2\r\nok\r\n"),
            (
                "*3\r\n:0\r\n:16001\r\n*3\r\n$9\r\n127.0.0.1\r\n:16001\r\n",
                "*3\r\n:0\r\n:16001\r\n*3\r\n$9\r\n127.0.0.1\r\n:20001\r\n",
            ),
            ("*2\r\n$9\r\n127.0.0.1\r\n$5\r\n16002\r\n", "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n9002\r\n"),
            ("$4\r\nport\r\n$5\r\n16001\r\n$5\r\nflags\r\n", "$4\r\nport\r\n$5\r\n20001\r\n$5\r\nflags\r\n"),
            ("$5\r\n16001\r\n:16001\r\n", "$5\r\n16001\r\n:16001\r\n"),
        ] {
            assert_eq!(String::from_utf8(announced.told(said.into())).unwrap(), told);
        }
    }
}
