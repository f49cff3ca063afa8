//! The form of an address to listen on. No resolver is asked: whether a name has an address shows when the port opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// What begins the address of a unix socket.
const UNIX: &str = "unix:";

/// Bytes that the path of a unix socket may have; `sun_path` of Linux, less the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// The path of the unix socket that `listen` names, if it names one.
pub(super) fn socket_path(listen: &str) -> Option<&Path> {
    listen.strip_prefix(UNIX).map(Path::new)
}

/// Checks that `listen` is `unix:/path` or what [`check_listen`] wants.
///
/// # Errors
/// What was expected, and what is there.
pub fn check_listen_or_socket(listen: &str) -> Result<(), String> {
    match socket_path(listen) {
        None => check_listen(listen),
        Some(path) if !path.is_absolute() => {
            Err(format!("expected an absolute path after `unix:`, found `{}`", path.display()))
        }
        Some(path) if path.as_os_str().len() > SOCKET_PATH_MAX => Err(format!(
            "expected the path of a socket of at most {SOCKET_PATH_MAX} bytes, found {}",
            path.as_os_str().len()
        )),
        Some(_) => Ok(()),
    }
}

/// Checks that `listen` is `host:port`: a name, an IPv4 address or an IPv6 address in brackets, and a port from 0 to
/// 65535.
///
/// # Errors
/// What was expected, and what is there.
pub fn check_listen(listen: &str) -> Result<(), String> {
    if listen.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let Some((host, port)) = listen.rsplit_once(':') else {
        return Err(format!("expected `host:port` such as 127.0.0.1:9464, found `{listen}`"));
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || port.parse::<u16>().is_err() {
        return Err(format!("expected a port from 0 to 65535 after the host, found `{port}`"));
    }
    if is_name(host) || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    Err(match host {
        "" => format!("expected a host before `:{port}`, found none; 0.0.0.0 is every network"),
        _ => format!("expected a host name or an ip address (ipv6 in brackets), found `{host}`"),
    })
}

/// Whether `host` can be a host's name. One that ends in a number is an IPv4 address or nothing.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253
        && host.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_an_absolute_path_that_fits() {
        assert_eq!(check_listen_or_socket("unix:/run/inferometer/otlp.sock"), Ok(()));
        assert_eq!(check_listen_or_socket("127.0.0.1:4317"), Ok(()));
        assert_eq!(
            check_listen_or_socket("unix:otlp.sock").unwrap_err(),
            "expected an absolute path after `unix:`, found `otlp.sock`"
        );
        assert_eq!(
            check_listen_or_socket(&format!("unix:/{}", "x".repeat(107))).unwrap_err(),
            "expected the path of a socket of at most 107 bytes, found 108"
        );
        assert!(check_listen("unix:/run/x").is_err(), "where only ports will do");
    }

    #[test]
    fn a_host_and_a_port() {
        for fine in [
            "127.0.0.1:9464",
            "0.0.0.0:0",
            "[::]:65535",
            "[fe80::1%2]:80",
            "localhost:1",
            "node-1.pool_a.internal.:9464",
        ] {
            assert_eq!(check_listen(fine), Ok(()), "{fine}");
        }
        let form = "expected `host:port` such as 127.0.0.1:9464, found ";
        let port = "expected a port from 0 to 65535 after the host, found ";
        let host = "expected a host name or an ip address (ipv6 in brackets), found ";
        for (wrong, said, found) in [
            ("nonsense", form, "nonsense"),
            ("", form, ""),
            ("h:", port, ""),
            ("h:65536", port, "65536"),
            ("h:+80", port, "+80"),
            ("h:http", port, "http"),
            ("[::1]", port, "1]"),
            ("::1:80", host, "::1"),
            ("300.0.0.1:80", host, "300.0.0.1"),
            ("http://h:80", host, "http://h"),
            ("a b:80", host, "a b"),
            ("a..b:80", host, "a..b"),
        ] {
            assert_eq!(check_listen(wrong), Err(format!("{said}`{found}`")), "{wrong}");
        }
        assert_eq!(
            check_listen(":9464"),
            Err("expected a host before `:9464`, found none; 0.0.0.0 is every network".to_owned())
        );
    }
}
