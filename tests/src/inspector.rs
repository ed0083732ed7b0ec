//! A TLS inspection box, as hospitals have them: it ends TLS with a certificate of its own authority, begins it anew towards the
//! coordinator, whose certificate it checks, and reads what passes.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use consilium_proto::inspected;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Such a box.
pub struct Inspector {
    address: String,
    authority: String,
    read: Arc<AtomicU64>,
    first: Arc<Mutex<Vec<u8>>>,
    _runtime: Runtime,
}

fn pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

/// A certificate for 127.0.0.1 that nobody else has signed, and its key, PEM.
pub fn certificate() -> (String, String, CertificateDer<'static>) {
    let key = pair();
    let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem(), certificate.der().clone())
}

impl Inspector {
    /// A box before `target`, whose certificate it believes.
    pub fn before(target: &str, trusted: CertificateDer<'static>) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, pair()).expect("an authority");
        let key = pair();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let server = inspected::server_config(vec![leaf.der().clone()], key).expect("a server");
        let client = inspected::client_config(vec![trusted]).expect("a client");
        let (acceptor, connector) =
            (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (read, first) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let seen = (read.clone(), first.clone());
        let target = target.to_owned();
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, acceptor, connector) = (target.clone(), acceptor.clone(), connector.clone());
                tokio::spawn(pass(near, target, acceptor, connector, seen.clone()));
            }
        });
        Self { address, authority: authority.pem(), read, first, _runtime: runtime }
    }

    /// Where to dial.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The certificate of its authority, PEM: what a hospital installs on its machines.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// How many bytes of the client's words it has read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The first of them.
    pub fn first(&self) -> Vec<u8> {
        self.first.lock().expect("no panics").clone()
    }
}

type Seen = (Arc<AtomicU64>, Arc<Mutex<Vec<u8>>>);

async fn pass(
    near: TcpStream,
    target: String,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    seen: Seen,
) -> io::Result<()> {
    let near = acceptor.accept(near).await?;
    let far = TcpStream::connect(target).await?;
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let far = connector.connect(name, far).await?;
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    tokio::select! {
        ended = copy(near_read, far_write, Some(seen)) => ended,
        ended = copy(far_read, near_write, None) => ended,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Option<Seen>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if let Some((read, first)) = &seen {
            read.fetch_add(length as u64, Ordering::Relaxed);
            let mut first = first.lock().expect("no panics");
            if first.is_empty() {
                first.extend(&buffer[..length]);
            }
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}
