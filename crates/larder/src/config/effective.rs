//! [`Effective`]: the whole effective configuration as YAML, without the secrets.

use super::cache::Draft;
use super::connectors::{BREAKER, KIND};
use super::postgres;
use super::redis::Redis;
use super::sentinel::{self, SENTINEL};
use super::setting::{Setting, Written};
use super::tls::TLS;
use super::{Config, breaker, cache, feed, memory, redis, tiered, tls};
use crate::caches::{ConnectorKind, ConnectorOptions};
use crate::connector::postgres::options::{PostgresOptions, Url};
use crate::connector::redis::options::{RedisOptions, TlsOptions};
use std::fmt::{self, Write};

/// A configuration with all defaults filled in. Its `Display` is YAML that can be loaded again, except that passwords are shown as
/// `***`, and that the URL is missing where Zitadel's block puts a cache on postgres and nothing gives the URL.
#[derive(Debug)]
pub struct Effective<'a>(pub(super) &'a Config);

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        f.write_str("connectors:\n  memory:\n")?;
        rows(f, 4, memory::SETTINGS, &config.memory())?;
        f.write_str("  redis:\n")?;
        let addressed = config.redis();
        let unaddressed = config.unaddressed.clone().redis.unwrap_or_default();
        server(f, addressed.unwrap_or(&unaddressed), addressed.is_some())?;
        f.write_str("  tiered:\n")?;
        let without = || tiered::Draft { over: None, options: config.unaddressed.clone().tiered.unwrap_or_default() };
        rows(f, 4, tiered::SETTINGS, &config.tiered().map_or_else(without, tiered::Draft::from))?;
        f.write_str("  postgres:\n")?;
        match config.postgres().or(config.unaddressed.postgres.as_ref()) {
            Some(options) => database(f, options)?,
            None => database(f, &PostgresOptions::new(Url::default()))?,
        }
        for (name, options) in config.connectors() {
            if ConnectorKind::of_name(name).is_some() {
                continue;
            }
            f.write_str("  ")?;
            text(f, name.as_str())?;
            writeln!(f, ":\n    {KIND}: {}", options.kind())?;
            match options {
                ConnectorOptions::Memory(options) => rows(f, 4, memory::SETTINGS, options)?,
                ConnectorOptions::Redis(options) => server(f, options, true)?,
                ConnectorOptions::Tiered(tier) => rows(f, 4, tiered::SETTINGS, &tiered::Draft::from(tier))?,
                ConnectorOptions::Postgres(options) => database(f, options)?,
                ConnectorOptions::Noop | ConnectorOptions::Own => {}
            }
        }
        feeds(f, config)?;
        f.write_str("defaults:\n")?;
        rows(f, 2, cache::SETTINGS, &Draft::of_defaults(&config.plan))?;
        if config.caches().next().is_none() {
            return Ok(());
        }
        f.write_str("caches:\n")?;
        for (name, cache) in config.caches() {
            f.write_str("  ")?;
            text(f, name)?;
            f.write_str(":\n")?;
            rows(f, 4, cache::SETTINGS, &Draft::of_cache(&config.plan, cache))?;
        }
        Ok(())
    }
}

fn server(f: &mut fmt::Formatter<'_>, options: &RedisOptions, addressed: bool) -> fmt::Result {
    rows(f, 4, redis::SETTINGS, &Redis { options: options.clone(), addressed }.draft())?;
    encryption(f, 4, options.tls.as_ref())?;
    if let Some(sentinel) = &options.sentinel {
        writeln!(f, "    {SENTINEL}:")?;
        rows(f, 6, sentinel::SETTINGS, sentinel)?;
        encryption(f, 6, sentinel.tls.as_ref())?;
    }
    writeln!(f, "    {BREAKER}:")?;
    rows(f, 6, breaker::SETTINGS, &options.breaker)
}

fn encryption(f: &mut fmt::Formatter<'_>, indent: usize, tls: Option<&TlsOptions>) -> fmt::Result {
    match tls {
        None => writeln!(f, "{:indent$}{TLS}: false", ""),
        Some(tls) if *tls == TlsOptions::default() => writeln!(f, "{:indent$}{TLS}: true", ""),
        Some(tls) => {
            writeln!(f, "{:indent$}{TLS}:", "")?;
            rows(f, indent + 2, tls::SETTINGS, tls)
        }
    }
}

fn database(f: &mut fmt::Formatter<'_>, options: &PostgresOptions) -> fmt::Result {
    rows(f, 4, postgres::SETTINGS, &postgres::Draft::of(options.clone()))?;
    writeln!(f, "    {BREAKER}:")?;
    rows(f, 6, breaker::SETTINGS, &options.breaker)
}

fn feeds(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    if config.feeds().next().is_some() {
        f.write_str("feed:\n")?;
    }
    for (name, options) in config.feeds() {
        f.write_str("  ")?;
        text(f, name)?;
        f.write_str(":\n")?;
        rows(f, 4, feed::SETTINGS, &feed::Draft::of(options))?;
        if !options.sources.is_empty() {
            writeln!(f, "    {}:", feed::SOURCES)?;
        }
        let mut before = None;
        for (cache, source) in options.sources.all() {
            if before != Some(cache) {
                f.write_str("      ")?;
                text(f, cache)?;
                f.write_str(":\n")?;
            }
            before = Some(cache);
            f.write_str("        -\n")?;
            rows(f, 10, feed::SOURCE, source)?;
        }
    }
    Ok(())
}

fn rows<T>(f: &mut fmt::Formatter<'_>, indent: usize, settings: &[Setting<T>], values: &T) -> fmt::Result {
    for setting in settings {
        let Some(written) = (setting.write)(values) else { continue };
        write!(f, "{:indent$}{}: ", "", setting.name)?;
        match written {
            Written::Plain(value) => f.write_str(&value)?,
            Written::Text(value) => text(f, &value)?,
            Written::Texts(values) => {
                for (place, value) in values.iter().enumerate() {
                    f.write_str(if place == 0 { "[" } else { ", " })?;
                    text(f, value)?;
                }
                f.write_str(if values.is_empty() { "[]" } else { "]" })?;
            }
        }
        f.write_char('\n')?;
    }
    Ok(())
}

/// Writes a text so that YAML reads the same text: in quotes, unless YAML cannot take it for anything else.
fn text(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
    let begins = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let another = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    if begins && value.chars().all(|c| word(c) || c == '.') && !another.contains(&value.to_ascii_lowercase().as_str()) {
        return f.write_str(value);
    }
    f.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                write!(f, "\\U{:08x}", u32::from(c))?
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
