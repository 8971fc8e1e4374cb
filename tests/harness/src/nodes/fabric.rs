//! The network between the nodes and the control plane: a network namespace with a bridge. Nothing of it is in the
//! machine's own network, but for a port on the loopback interface that leads to the API server.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::oneshot;

use super::machine::{Machine, only_child};
use crate::process::Process;
use crate::wait::eventually;

/// The control plane's address, and the port of its API server.
pub(crate) const API_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 1), 6443);

const SCRIPT: &str = r"
ip link set lo up
ip link add br0 type bridge
ip address add 172.30.0.1/24 dev br0
ip link set br0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
exec sleep infinity";

/// The namespace. It goes with this value, and with the process that holds it.
#[derive(Debug)]
pub(crate) struct Fabric {
    outer: Process,
    pid: u32,
}

impl Fabric {
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--fork", "--kill-child=KILL", "sh", "-euc"])
            .arg(SCRIPT);
        let mut outer = Process::start("the network", &command, &directory.join("network.log"))?;
        let pid = eventually("the network between the nodes", async || {
            if let Err(error) = outer.running() {
                return Ok(Err(error));
            }
            let pid = only_child(outer.id())?;
            let program = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
            if program.trim() != "sleep" {
                bail!("{} still sets it up", program.trim());
            }
            Ok(Ok(pid))
        })
        .await??;
        Ok(Self { outer, pid })
    }

    /// This command, in the network.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("nsenter");
        within
            .arg(format!("--net=/proc/{}/ns/net", self.pid))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            within.current_dir(directory);
        }
        within
    }

    /// Connects a node; `number` decides its addresses, and must be its own.
    pub(crate) fn connect(&self, machine: &Machine, number: u8) -> Result<()> {
        let (link, peer) = (format!("node{number}"), machine.pid().to_string());
        self.ip(&[
            "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &peer,
        ])?;
        self.ip(&["link", "set", &link, "master", "br0", "up"])?;
        let address = node_address(number);
        machine.run("ip", &["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        machine.run("ip", &["link", "set", "eth0", "up"])?;
        machine.run(
            "ip",
            &["route", "add", "default", "via", &API_SERVER.ip().to_string()],
        )?;
        self.ip(&["route", "add", &pod_network(number), "via", &address.to_string()])
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(arguments);
        let output = self
            .within(&command)
            .output()
            .context("cannot run nsenter (util-linux)")?;
        if !output.status.success() {
            bail!(
                "ip {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Opens a port of the machine's loopback interface to the API server.
    pub(crate) fn gate(&self) -> Result<Gate> {
        Gate::open(self.pid)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        // unshare ends at once; the namespace with the process in it, which the kernel kills then.
        self.outer.kill();
    }
}

/// The address of a node.
pub(crate) fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + number)
}

/// The addresses of a node's pods.
pub(crate) fn pod_network(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// A thread that stands in the network and serves a port outside of it.
#[derive(Debug)]
pub(crate) struct Gate {
    port: u16,
    _end: oneshot::Sender<()>,
}

impl Gate {
    fn open(network: u32) -> Result<Self> {
        // A socket stays in the network that it was made in.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (end, ended) = oneshot::channel();
        let (report, started) = sync_channel(1);
        thread::spawn(move || {
            let runtime = File::open(format!("/proc/{network}/ns/net"))
                .map_err(anyhow::Error::from)
                .and_then(|network| {
                    Ok(move_into_link_name_space(
                        network.as_fd(),
                        Some(LinkNameSpaceType::Network),
                    )?)
                })
                .and_then(|()| Ok(runtime::Builder::new_current_thread().enable_all().build()?));
            match runtime {
                Ok(runtime) => {
                    // The other side waits for it.
                    let _ = report.send(Ok(()));
                    runtime.block_on(async {
                        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                            return;
                        };
                        tokio::select! {
                            _ = ended => {}
                            () = serve(listener) => {}
                        }
                    });
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        });
        started
            .recv()
            .map_err(|_| anyhow!("the thread between the networks is gone"))?
            .context("cannot enter the network between the nodes")?;
        Ok(Self { port, _end: end })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(listener: tokio::net::TcpListener) {
    loop {
        // An error is one of the connection that failed to come.
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(async move {
            // While the API server is down the client sees its connection end.
            if let Ok(mut server) = TcpStream::connect(API_SERVER).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
