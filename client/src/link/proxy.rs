//! The way out of a hospital: directly, or through an HTTP proxy by CONNECT (RFC 9110, section 9.3.6).
//!
//! The proxy sees the coordinator's name and port and resolves the name itself; this machine looks up only the proxy's own. What goes
//! through the tunnel is TLS that ends at the coordinator. Basic authentication (RFC 7617), from a private file or the
//! environment's URL; never an argument.

use std::{fmt, io, path::Path};

use base64ct::{Base64, Encoding as _};
use consilium_crypto::secret::Secret;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::files::{self, FileError};

/// Longest answer of a proxy that is read, bytes.
const MAX_ANSWER: usize = 8 << 10;

/// How the coordinator is reached.
#[derive(Clone, Debug, Default)]
pub enum Route {
    /// By a connection of its own.
    #[default]
    Direct,
    /// By a tunnel.
    Through(Proxy),
}

/// A proxy that tunnels.
#[derive(Clone)]
pub struct Proxy {
    address: String,
    /// The header's value.
    authorization: Option<std::sync::Arc<Secret<String>>>,
    source: &'static str,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.authorization.is_some() { ", <password redacted>" } else { "" };
        write!(f, "Proxy({} from {}{password})", self.address, self.source)
    }
}

/// Why a proxy's description was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The address does not parse.
    #[error(
        "{source_name} = \"{value}\": write host:port or http://host:port, as in proxy.hospital.example:3128{note}"
    )]
    Address {
        /// Where it stands.
        source_name: &'static str,
        /// What stands there, without a password.
        value: String,
        /// What else is wrong.
        note: &'static str,
    },
    /// The file with the credentials.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file's content.
    #[error("{}: write one line, user:password", path.display())]
    Credentials {
        /// The file.
        path: std::path::PathBuf,
    },
}

impl Proxy {
    /// A proxy at `address`, with the credentials in a private file, if any.
    ///
    /// # Errors
    ///
    /// [`ProxyError`].
    pub fn new(address: &str, credentials: Option<&Path>) -> Result<Self, ProxyError> {
        let mut proxy = Self::parse("proxy.address", address)?;
        if let Some(path) = credentials {
            let text = files::read_private(path)?;
            let line = text.expose().trim_end_matches(['\r', '\n']);
            let good = line.contains(':') && !line.contains(['\r', '\n']);
            if !good {
                return Err(ProxyError::Credentials { path: path.to_path_buf() });
            }
            proxy.authorization = Some(basic(line));
        }
        Ok(proxy)
    }

    fn parse(source: &'static str, text: &str) -> Result<Self, ProxyError> {
        let refuse = |note| {
            let value = text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
            ProxyError::Address { source_name: source, value, note }
        };
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some(_) => return Err(refuse("; only proxies that are spoken to in plain HTTP are known")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) =
            rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let good = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && port.parse::<u16>().is_ok_and(|port| port > 0)
                && !address.contains(['/', ' '])
        });
        if !good {
            return Err(refuse(""));
        }
        let authorization = match credentials {
            None => None,
            Some(user) => {
                let plain =
                    unescape(user).ok_or_else(|| refuse("; its user and password are not well escaped"))?;
                Some(basic(plain.expose()))
            }
        };
        Ok(Self { address: address.to_owned(), authorization, source })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it was named.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// A tunnel to `target` (`host:port`).
    ///
    /// # Errors
    ///
    /// In words, with what to ask the proxy's people for.
    pub(super) async fn connect(&self, target: &str) -> io::Result<TcpStream> {
        let address = &self.address;
        let named = |why: String| io::Error::other(format!("the proxy {address} ({}) {why}", self.source));
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(|error| named(format!("cannot be reached: {error}")))?;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        let mut request = Secret::new(head.into_bytes());
        if let Some(value) = &self.authorization {
            request = Secret::new(
                [request.expose(), b"Proxy-Authorization: ".as_slice(), value.expose().as_bytes(), b"\r\n"]
                    .concat(),
            );
        }
        request = Secret::new([request.expose().as_slice(), b"\r\n"].concat());
        stream.write_all(request.expose()).await.map_err(|error| named(format!("broke off: {error}")))?;
        let mut answer = Vec::new();
        // Byte by byte, because what comes after the answer belongs to the tunnel.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER {
                return Err(named("answered at greater length than any proxy does".into()));
            }
            let byte = stream.read_u8().await.map_err(|error| named(format!("broke off: {error}")))?;
            answer.push(byte);
        }
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line: String =
            String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(120).collect();
        match line.split(' ').nth(1) {
            Some("200") if line.starts_with("HTTP/1.") => Ok(stream),
            Some("407") if self.authorization.is_none() => Err(named(format!(
                "demands a password ({line}): put user:password into a file of mode 0600 and name it as proxy.credentials"
            ))),
            Some("407") => {
                Err(named(format!("does not accept the user and password ({line}): correct the file")))
            }
            Some("403") => {
                Err(named(format!("forbids it ({line}): ask its people to allow CONNECT to {target}")))
            }
            _ => Err(named(format!("does not open a tunnel to {target}: {line}"))),
        }
    }
}

impl Route {
    /// What the environment says: HTTPS_PROXY (or https_proxy), unless NO_PROXY (or no_proxy) exempts the coordinator.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Address`].
    pub fn from_environment(coordinator: &str) -> Result<Self, ProxyError> {
        let read = |names: [&str; 2]| {
            names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        };
        Self::from_variables(
            coordinator,
            read(["HTTPS_PROXY", "https_proxy"]),
            read(["NO_PROXY", "no_proxy"]),
        )
    }

    fn from_variables(
        coordinator: &str,
        proxy: Option<String>,
        exempt: Option<String>,
    ) -> Result<Self, ProxyError> {
        let Some(proxy) = proxy.map(Secret::new) else { return Ok(Self::Direct) };
        if exempt.is_some_and(|list| exempts(&list, coordinator)) {
            return Ok(Self::Direct);
        }
        Ok(Self::Through(Proxy::parse("HTTPS_PROXY", proxy.expose().trim())?))
    }

    /// The proxy's address, if there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => Some(proxy),
        }
    }
}

/// Whether a NO_PROXY list names a host: itself, a domain it is in, with or without a port, or `*`.
fn exempts(list: &str, coordinator: &str) -> bool {
    let (host, port) = coordinator.rsplit_once(':').unwrap_or((coordinator, ""));
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(
        |entry| {
            let (name, of_port) = match entry.rsplit_once(':') {
                // More than one colon is an IPv6 address without a port.
                Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
                _ => (entry.as_str(), None),
            };
            let name = name.trim_matches(['[', ']']).trim_start_matches("*.").trim_start_matches('.');
            let same_port = of_port.is_none_or(|of_port| of_port == port);
            let inside =
                host.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'));
            same_port && (entry == "*" || (!name.is_empty() && inside))
        },
    )
}

fn basic(credentials: &str) -> std::sync::Arc<Secret<String>> {
    let encoded = Secret::new(Base64::encode_string(credentials.as_bytes()));
    std::sync::Arc::new(Secret::new(format!("Basic {}", encoded.expose())))
}

/// Percent-escapes of a URL's user part.
fn unescape(text: &str) -> Option<Secret<String>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            (bytes, rest) = (
                {
                    bytes.push(byte);
                    bytes
                },
                after,
            );
            continue;
        }
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok())?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after.get(2..)?;
    }
    let text = String::from_utf8(bytes).ok()?;
    (text.contains(':') && !text.contains(['\r', '\n'])).then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_proxy_and_exempts_hosts() {
        let route = |proxy: &str, exempt: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Route::from_variables("hub.consortium.example:7400", some(proxy), some(exempt)).unwrap()
        };
        let proxied = |exempt: &str| route("http://proxy.example:3128/", exempt).proxy().is_some();
        assert!(route("", "").proxy().is_none());
        assert_eq!(route("proxy.example:3128", "").proxy().unwrap().address(), "proxy.example:3128");
        for exempt in [
            "*",
            "consortium.example",
            ".consortium.example",
            "x, hub.consortium.example:7400",
            "HUB.consortium.EXAMPLE",
        ] {
            assert!(!proxied(exempt), "{exempt}");
        }
        for exempt in
            ["", "example.org", "ub.consortium.example", "consortium.example:443", "10.0.0.0/8", "."]
        {
            assert!(proxied(exempt), "{exempt}");
        }
        let with_user = route("http://ward%201:p%40ss%3Aword@proxy.example:3128", "");
        let value = with_user.proxy().unwrap().authorization.clone().unwrap();
        // "ward 1:p@ss:word"
        assert_eq!(value.expose(), "Basic d2FyZCAxOnBAc3M6d29yZA==");
        assert!(!format!("{with_user:?}").contains("word@") && !format!("{with_user:?}").contains("d2Fy"));
    }

    #[test]
    fn a_proxy_that_cannot_be_is_refused_without_repeating_a_password() {
        for (text, part) in [
            ("https://proxy.example:3128", "plain HTTP"),
            ("socks5://proxy.example:1080", "plain HTTP"),
            ("proxy.example", "host:port"),
            ("http://user:hunter2@proxy.example", "host:port"),
            ("http://user:hunter%2@proxy.example:1", "escaped"),
            ("http://proxy.example:0", "host:port"),
        ] {
            let error = Proxy::parse("HTTPS_PROXY", text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.txt");
        files::create_private(&path, &Secret::new("nobody\n".to_owned())).unwrap();
        assert!(matches!(Proxy::new("proxy.example:3128", Some(&path)), Err(ProxyError::Credentials { .. })));
    }
}
