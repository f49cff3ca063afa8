//! [`Listener`]: what a server accepts connections from, a TCP port or a unix socket, and how it is opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tracing::{debug, warn};

use super::listen::socket_path;
use super::{BindError, ServerPlan};
use crate::stream::Stream;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port of an interface.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(Arc<Path>),
}

impl Address {
    /// The port. `None`: a unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open port or socket.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The file of a socket; removed with the listener.
pub(super) struct SocketFile(Arc<Path>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!(path = %self.0.display(), %error, "removing a socket failed");
        }
    }
}

impl Listener {
    /// Opens what `plan` says.
    pub(super) async fn open(plan: &ServerPlan) -> Result<(Self, Address), BindError> {
        let listen = &plan.listen.listen;
        match socket_path(listen) {
            Some(_) if plan.listen.tls.is_some() => {
                Err(BindError::TlsOnSocket { listen: listen.clone() })
            }
            Some(path) => Self::open_unix(path, listen).await,
            None => Self::open_tcp(listen).await,
        }
    }

    async fn open_tcp(listen: &str) -> Result<(Self, Address), BindError> {
        let addresses = lookup_host(listen)
            .await
            .map_err(|source| BindError::Address { listen: listen.to_owned(), source })?
            .collect::<Vec<_>>();
        let opened = async {
            let listener = TcpListener::bind(&addresses[..]).await?;
            let address = listener.local_addr()?;
            Ok((Self::Tcp(listener), Address::Tcp(address)))
        };
        let listen = || listen.to_owned();
        opened.await.map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { listen: listen() },
            io::ErrorKind::PermissionDenied => BindError::Permission { listen: listen() },
            io::ErrorKind::AddrNotAvailable => BindError::NotHere { listen: listen() },
            _ => BindError::Io { listen: listen(), source },
        })
    }

    /// A socket file that nobody listens on any more is what a process left behind that did not end in peace.
    async fn open_unix(path: &Path, listen: &str) -> Result<(Self, Address), BindError> {
        let mut opened = UnixListener::bind(path);
        let in_use = |opened: &io::Result<UnixListener>| {
            opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        if in_use(&opened) && !is_socket(path) {
            opened = Err(io::Error::other("a file that is no socket is in its place"));
        } else if in_use(&opened) && is_abandoned(path).await {
            warn!(path = %path.display(), "found a socket that nobody listens on, replacing it");
            opened = std::fs::remove_file(path).and_then(|()| UnixListener::bind(path));
        }
        let listen = || listen.to_owned();
        let listener = opened.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { listen: listen() },
            io::ErrorKind::PermissionDenied => BindError::SocketPermission { listen: listen() },
            _ => BindError::Io { listen: listen(), source },
        })?;
        let path: Arc<Path> = PathBuf::from(path).into();
        let _file = SocketFile(Arc::clone(&path));
        Ok((Self::Unix { listener, _file }, Address::Unix(path)))
    }

    /// The next connection, and who it is from. Dropping the future loses none.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                if let Err(error) = tcp.set_nodelay(true) {
                    debug!(%peer, %error, "setting nodelay failed");
                }
                Ok((Stream::Plain(tcp), Some(peer)))
            }
            Self::Unix { listener, .. } => {
                let (unix, _) = listener.accept().await?;
                Ok((Stream::Unix(unix), None))
            }
        }
    }
}

/// Connecting to any other file is refused as well, and that file must not be replaced.
fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether nobody answers at this socket.
async fn is_abandoned(path: &Path) -> bool {
    let refused = UnixStream::connect(path).await.err().map(|error| error.kind());
    refused == Some(io::ErrorKind::ConnectionRefused)
}
