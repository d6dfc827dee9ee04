//! Where a database is, as libpq takes it: a URL (`postgres://user:password@host:port/database?…`), or keys and values
//! (`host=… user=… dbname=…`).
//!
//! larder reads the text itself, so that a configuration is checked in a build without the postgres connector as well. The parts are
//! written again as keys and values: for the client library, and for people. The password is kept apart.

use crate::connector::secret::Secret;
use crate::option_error::OptionError;
use std::fmt;

const UNREADABLE: &str = "is neither a URL of a database nor a list of keys and values (in a URL, write characters other than letters and digits \
                          as %XX)";

/// The settings that the client library knows. None of them is a secret.
const KNOWN: [&str; 27] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "ssl_min_protocol_version",
    "sslsni",
    "sslcompression",
    "gssencmode",
    "client_encoding",
    "fallback_application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Parameters of libpq that larder does not honour.
const FOREIGN: [&str; 23] = [
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslpassword",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
];

const UNKNOWN: &str = "has a parameter that libpq does not know: correct its name, and percent-encode or quote special characters in values";
const NO_HOST: &str = "is missing: give a host, or the folder of a Unix socket";

/// Why a text does not say where a database is. It shows no part of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UrlError {
    /// The parameter that is wrong. `None`: the text as a whole is.
    pub(crate) parameter: Option<&'static str>,
    /// Continues the sentence after the name of what is wrong.
    pub(crate) wrong: &'static str,
}

impl UrlError {
    fn whole(wrong: &'static str) -> Self {
        Self { parameter: None, wrong }
    }

    fn of(parameter: &'static str, wrong: &'static str) -> Self {
        Self { parameter: Some(parameter), wrong }
    }
}

/// Continues the sentence after the name of the setting.
impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter {
            None => f.write_str(self.wrong),
            Some(parameter) => write!(f, "cannot be used: its `{parameter}` {}", self.wrong),
        }
    }
}

impl From<UrlError> for OptionError {
    fn from(UrlError { parameter, wrong }: UrlError) -> Self {
        match parameter {
            None => Self::hidden("url", wrong),
            Some(parameter) => Self::hidden(parameter, wrong).within("url: "),
        }
    }
}

/// A port of the list. One that is not given is PostgreSQL's own.
pub(crate) fn port(text: &str) -> Result<u16, UrlError> {
    if text.is_empty() {
        return Ok(5432);
    }
    let wrong = "is not a number from 1 to 65535, or a list of them";
    text.trim().parse().ok().filter(|port| *port > 0).ok_or(UrlError::of("port", wrong))
}

/// Settings with one value for each host. When they are given again, further hosts are added.
const LISTS: [&str; 3] = ["host", "hostaddr", "port"];

/// Where a database is, and who logs in. It holds no password. Its `Display` is a list of keys and values that can be read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Url(Vec<(&'static str, String)>);

impl Url {
    /// Reads a URL, or keys and values. Returns the password separately. Whether the values make sense together, [`read_url`](super::read_url) finds out.
    pub(crate) fn parse(text: &str) -> Result<(Self, Option<Secret>), UrlError> {
        let text = text.trim();
        let given = match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            Some(rest) => of_url(rest),
            None => of_words(text),
        };
        let (mut url, mut password) = (Self::default(), None);
        for (key, value) in given.ok_or(UrlError::whole(UNREADABLE))? {
            if key == "password" {
                password = Some(Secret::new(value)).filter(|password| !password.expose().is_empty());
                continue;
            }
            if let Some(foreign) = FOREIGN.into_iter().find(|foreign| *foreign == key) {
                let wrong = "is a parameter of libpq that larder does not honour: leave it out";
                return Err(UrlError::of(foreign, wrong));
            }
            let Some(key) = KNOWN.into_iter().find(|known| *known == key) else {
                return Err(UrlError::whole(UNKNOWN));
            };
            match url.0.iter_mut().find(|(given, _)| *given == key) {
                Some((_, values)) if LISTS.contains(&key) => {
                    values.push(',');
                    values.push_str(&value);
                }
                Some((_, other)) => *other = value,
                None => url.0.push((key, value)),
            }
        }
        if url.is_empty() {
            return Err(UrlError::of("host", NO_HOST));
        }
        url.get("port").unwrap_or_default().split(',').try_for_each(|one| port(one).map(drop))?;
        Ok((url, password))
    }

    /// Whether it does not say where the database is.
    pub(crate) fn is_empty(&self) -> bool {
        self.get("host").or(self.get("hostaddr")).is_none()
    }

    /// The same with another name for the sessions.
    pub(crate) fn application_name(mut self, name: &str) -> Self {
        self.0.retain(|(key, _)| *key != "application_name");
        self.0.push(("application_name", name.to_owned()));
        self
    }

    /// The parameters and their values.
    #[cfg(feature = "postgres")]
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(given, value)| *given == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Hosts and database, for people.
    pub(crate) fn place(&self) -> String {
        let hosts = self.get("host").or(self.get("hostaddr")).unwrap_or("?");
        let ports = self.get("port").filter(|ports| ports.split(',').any(|port| port != "5432"));
        let ports = ports.map(|ports| format!(":{ports}")).unwrap_or_default();
        let database = self.get("dbname").or(self.get("user")).unwrap_or("?");
        format!("{hosts}{ports}/{database}")
    }

    /// Who logs in, if that is given.
    pub(crate) fn user(&self) -> Option<&str> {
        self.get("user")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, value)) in self.0.iter().enumerate() {
            let space = if place > 0 { " " } else { "" };
            let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '\\'));
            if plain {
                write!(f, "{space}{key}={value}")?;
            } else {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                write!(f, "{space}{key}='{value}'")?;
            }
        }
        Ok(())
    }
}

/// The parts of a URL, without its scheme. A password may contain `@`, so the last one ends the credentials.
fn of_url(text: &str) -> Option<Vec<(String, String)>> {
    let (rest, query) = text.split_once('?').map_or((text, None), |(rest, query)| (rest, Some(query)));
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (hosts, database) = rest.split_once('/').map_or((rest, None), |(hosts, database)| (hosts, Some(database)));
    let mut given = Vec::new();
    let mut add = |key: &str, value: &str| {
        given.push((key.to_owned(), decode(value)?));
        Some(())
    };
    if let Some(user) = user {
        let (user, password) = user.split_once(':').map_or((user, None), |(user, rest)| (user, Some(rest)));
        if !user.is_empty() {
            add("user", user)?;
        }
        if let Some(password) = password {
            add("password", password)?;
        }
    }
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return None;
        }
        add("host", host)?;
        add("port", port.filter(|port| !port.is_empty()).unwrap_or("5432"))?;
    }
    if let Some(database) = database.filter(|database| !database.is_empty()) {
        add("dbname", database)?;
    }
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=')?;
        // As the drivers for Java have it. libpq takes it in URLs, too.
        match (&*decode(key)?, value) {
            ("ssl", "true") => add("sslmode", "require")?,
            (key, value) => add(key, value)?,
        }
    }
    Some(given)
}

/// Keys and values: `key=value`, or `key='a value'`. A backslash takes the meaning from the character that follows.
fn of_words(text: &str) -> Option<Vec<(String, String)>> {
    let mut given = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return None;
        }
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut value = String::new();
        let mut characters = after.char_indices().skip(usize::from(quoted));
        let end = loop {
            match characters.next() {
                None if quoted => return None,
                None => break after.len(),
                Some((at, '\'')) if quoted => break at + 1,
                Some((at, c)) if !quoted && c.is_whitespace() => break at,
                Some((_, '\\')) => value.push(characters.next()?.1),
                Some((_, c)) => value.push(c),
            }
        };
        // After a key without a value, the next pair would be taken for the value: `host= password=barley`. It must not be shown as a host.
        let swallowed = value.contains('=') && !matches!(key, "options" | "password");
        if !quoted && (value.is_empty() || swallowed) {
            return None;
        }
        given.push((key.to_owned(), value));
        rest = after.get(end..)?.trim_start();
    }
    Some(given)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let high = digit()?;
                u8::try_from(high * 16 + digit()?).ok().filter(|byte| *byte != 0)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Option<String>), UrlError> {
        Url::parse(text).map(|(url, password)| (url.to_string(), password.map(|password| password.expose().to_owned())))
    }

    #[test]
    fn both_forms_are_read_as_libpq_reads_them() {
        for (text, shown, password) in [
            ("postgres://h", "host=h port=5432", None),
            ("postgresql://ann@h/zitadel", "user=ann host=h port=5432 dbname=zitadel", None),
            ("postgres://ann:b%40rley@h:6543/z", "user=ann host=h port=6543 dbname=z", Some("b@rley")),
            ("postgres://ann:b@rley@h/z", "user=ann host=h port=5432 dbname=z", Some("b@rley")),
            ("postgres://a,[::1]:7,c/z", "host=a,::1,c port=5432,7,5432 dbname=z", None),
            ("postgres:///z?host=/run/postgresql&user=ann", "dbname=z host=/run/postgresql user=ann", None),
            ("postgres://%2Frun%2Fpg/z", "host=/run/pg port=5432 dbname=z", None),
            (
                "postgres://h/z?password=barley&sslmode=require",
                "host=h port=5432 dbname=z sslmode=require",
                Some("barley"),
            ),
            ("postgres://h?options=-c%20a%3Db", "host=h port=5432 options='-c a=b'", None),
            ("host=h user=ann dbname=z", "host=h user=ann dbname=z", None),
            (" host = h  port=1 password='it\\'s \\\\ rye' ", "host=h port=1", Some("it's \\ rye")),
            ("host=h user='a b'", "host=h user='a b'", None),
            ("host=h password=''", "host=h", None),
            ("postgres://jo%40x:s%2Fe%3Ac@h", "user=jo@x host=h port=5432", Some("s/e:c")),
            ("postgres://jo:@h:/d", "user=jo host=h port=5432 dbname=d", None),
            ("postgres://h?ssl=true", "host=h port=5432 sslmode=require", None),
            ("host=a host=b user=ann user=bob", "host=a,b user=bob", None),
        ] {
            assert_eq!(read(text), Ok((shown.to_owned(), password.map(str::to_owned))), "{text}");
            assert_eq!(read(shown), Ok((shown.to_owned(), None)), "what is shown can be read again");
        }
    }

    #[test]
    fn people_see_hosts_and_database() {
        for (text, place) in [
            ("postgres://ann:barley@h/z", "h/z"),
            ("postgres://ann:barley@h:6543", "h:6543/ann"),
            ("host=/run/pg user=ann", "/run/pg/ann"),
            ("hostaddr=127.0.0.1 port=1 dbname=z", "127.0.0.1:1/z"),
            ("postgres://a,b:1/z", "a,b:5432,1/z"),
        ] {
            assert_eq!(Url::parse(text).unwrap().0.place(), place, "{text}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn what_cannot_be_honoured_is_named_and_nothing_is_shown() {
        for (text, option) in [
            ("postgres://jo:hunter2@h/d?sslcrl=hunter2", "url: sslcrl"),
            ("postgres://jo:hunter2@h/d?passfile=hunter2", "url: passfile"),
            ("postgres://jo:hunter2@h/d?hunter2=x", "url"),
            ("postgres://jo:hunter2%2@h/d", "url"),
            ("postgres://jo:hunter2@h:hunter2/d", "url: port"),
            ("postgres://jo:hunter2@/d", "url: host"),
            ("host=h hostaddr=hunter2", "url: hostaddr"),
            ("host=h port=hunter2", "url: port"),
            ("postgres://h?keepalives=hunter2", "url: keepalives"),
            ("host=a,b port=1,2,3", "url: port"),
            ("host=a target_session_attrs=standby", "url: target_session_attrs"),
            ("host=a sslmode=hunter2", "url: sslmode"),
            ("host=a sslmode=verify-full", "url: sslrootcert"),
            ("host=a sslmode=require sslrootcert=system", "url: sslmode"),
            ("host=a sslcert=hunter2", "url: sslkey"),
            ("host=a sslnegotiation=direct", "url: sslnegotiation"),
            ("host=a connect_timeout=hunter2", "url: connect_timeout"),
            ("host=a password=it's hunter2", "url"),
            ("hunter2", "url"),
        ] {
            let error = super::super::read_url(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(OptionError::from(error).option(), option, "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_without_showing_it() {
        for text in [
            "",
            "barley",
            "mysql://ann:barley@h",
            "redis://ann:barley@h",
            "postgres://",
            "postgres:///z",
            "postgres://ann:barley@",
            "postgres://ann:barley@h:port",
            "postgres://ann:barley@h:99999",
            "postgres://ann:%zzbarley@h",
            "postgres://ann:%ffbarley@h",
            "postgres://ann:barley@[::1",
            "postgres://h?barley=1",
            "postgres://h?barley",
            "user=ann password=barley",
            "host=h barley",
            "host=h password='barley",
            "host=h barley=1",
            "host=h sslpassword=barley",
            "host= user=barley",
            "host= password=barley",
        ] {
            let refused = read(text).unwrap_err().to_string();
            assert!(!refused.contains("barley"), "{text}: {refused}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_client_library_reads_what_larder_reads() {
        for known in KNOWN {
            let value = match known {
                "hostaddr" => "127.0.0.1",
                "sslmode" | "channel_binding" => "prefer",
                "sslnegotiation" => "postgres",
                "target_session_attrs" => "any",
                "load_balance_hosts" => "random",
                "sslcompression" => "0",
                "gssencmode" => "disable",
                "client_encoding" => "utf8",
                "ssl_min_protocol_version" => "TLSv1.3",
                _ => "1",
            };
            // A certificate needs its key, and the other way round.
            let pair = match known {
                "sslcert" => "sslkey=1",
                "sslkey" => "sslcert=1",
                _ => "user=ann",
            };
            assert_eq!(Url::parse(&format!("host=h {pair} {known}={value}")).map(|_| ()), Ok(()), "{known}");
        }
    }
}
