//! Who listens on this host: `/proc/net/tcp`, `/proc/net/tcp6`, and which processes own the sockets.
//!
//! Source of the format: Linux, Documentation/networking/proc_net_tcp.rst.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A command line is read up to this length: enough to see `vllm serve`.
const COMMAND_BYTES_MAX: u64 = 4096;

/// A listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// The address it is bound to.
    pub(super) ip: IpAddr,
    /// Its port.
    pub(super) port: u16,
    /// The socket: another one after a restart.
    pub(super) inode: u64,
}

impl Listener {
    /// Where to reach it from this host; `None` when it is bound to an address that is neither loopback nor any.
    pub(super) fn dial(&self) -> Option<IpAddr> {
        match self.ip {
            // A socket of IPv6 that is bound to any address mostly takes IPv4 as well, and loopback of IPv6 may be off.
            ip if ip.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ip if ip.is_loopback() => Some(ip),
            _ => None,
        }
    }
}

/// All listening sockets of the network namespace of this process. Blocks.
pub(super) fn read(proc: &Path) -> io::Result<Vec<Listener>> {
    let mut all = listening(&proc.join("net/tcp"))?;
    // Absent where the kernel has no IPv6.
    all.extend(listening(&proc.join("net/tcp6")).unwrap_or_default());
    Ok(all)
}

fn listening(path: &Path) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(path)?).lines().skip(1) {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        // The kernel lists listening sockets first; a busy host has a hundred thousand others.
        if state != Some(LISTEN) {
            break;
        }
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok());
        if let (Some((ip, port)), Some(inode)) = (local.and_then(address), inode) {
            found.push(Listener { ip, port, inode });
        }
    }
    Ok(found)
}

/// `0100007F:1F90`: words of four bytes in the order of the host, and the port as a number.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |idx: usize| {
        let digits = ip.get(idx * 8..idx * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (idx, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(idx)?);
            }
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Sockets of this process. Blocks.
pub(super) fn own_sockets(proc: &Path) -> HashSet<u64> {
    let mut sockets = HashSet::new();
    collect_sockets(&proc.join("self"), &mut sockets);
    sockets
}

/// Sockets of processes whose command line is an engine's, as far as they may be looked at. Blocks.
pub(super) fn engine_sockets(proc: &Path) -> HashSet<u64> {
    let mut sockets = HashSet::new();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let is_pid =
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if is_pid && command(&entry.path()).is_some_and(|command| is_engine_command(&command)) {
            collect_sockets(&entry.path(), &mut sockets);
        }
    }
    sockets
}

fn command(process: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(process.join("cmdline"))
        .ok()?
        .take(COMMAND_BYTES_MAX)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).replace('\0', " "))
}

/// Commands and process titles of vLLM (from 0.10.1: `VLLM::APIServer_0`), SGLang and its router.
fn is_engine_command(command: &str) -> bool {
    const MARKS: [&str; 7] =
        ["vllm", "VLLM::", "sglang", "sglang::", "sgl-model-gateway", "sgl_model_gateway", "smg "];
    MARKS.iter().any(|mark| command.contains(mark))
}

fn collect_sockets(process: &Path, sockets: &mut HashSet<u64>) {
    for entry in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let target = std::fs::read_link(entry.path()).ok();
        let inode: Option<u64> = target.as_ref().and_then(|target| {
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        });
        sockets.extend(inode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 00000000:7530 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 100 0 0 10 0
   2: 0A00000A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 0000000000000000 100 0 0 10 0
   3: 0100007F:1F40 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4245 1 0000000000000000 100 0 0 10 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 51 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:1F42 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 52 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F43 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 53 1 0000000000000000 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_what_the_kernel_prints() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("net")).unwrap();
        std::fs::write(proc.path().join("net/tcp"), TCP).unwrap();
        std::fs::write(proc.path().join("net/tcp6"), TCP6).unwrap();
        let found: Vec<String> = read(proc.path())
            .unwrap()
            .iter()
            .map(|l| {
                format!("{} {} {} {:?}", l.ip, l.port, l.inode, l.dial().map(|ip| ip.to_string()))
            })
            .collect();
        assert_eq!(
            found,
            [
                "127.0.0.1 8000 4242 Some(\"127.0.0.1\")",
                "0.0.0.0 30000 4243 Some(\"127.0.0.1\")",
                "10.0.0.10 8080 4244 None",
                ":: 8001 51 Some(\"127.0.0.1\")",
                "::1 8002 52 Some(\"::1\")",
                "127.0.0.1 8003 53 Some(\"127.0.0.1\")",
            ]
        );
    }

    #[test]
    fn a_damaged_table_is_no_panic() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("net")).unwrap();
        assert!(read(proc.path()).is_err());
        std::fs::write(
            proc.path().join("net/tcp"),
            "head\n0: é 0 0A\n1: 0100007F:1F40 0 0A 0 0 0 0 0 x\n",
        )
        .unwrap();
        assert_eq!(read(proc.path()).unwrap(), []);
    }

    #[test]
    fn finds_engines_and_itself_by_their_sockets() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, command, inode) in [
            ("17", "python\0-m\0sglang.launch_server\0", 5),
            ("18", "nginx\0", 6),
            ("self", "inferometer\0", 7),
        ] {
            let fd = proc.path().join(pid).join("fd");
            std::fs::create_dir_all(&fd).unwrap();
            std::fs::write(proc.path().join(pid).join("cmdline"), command).unwrap();
            std::os::unix::fs::symlink(format!("socket:[{inode}]"), fd.join("3")).unwrap();
            std::os::unix::fs::symlink("/dev/null", fd.join("4")).unwrap();
        }
        assert_eq!(engine_sockets(proc.path()), HashSet::from([5]));
        assert_eq!(own_sockets(proc.path()), HashSet::from([7]));
    }
}
