//! The HTTP side: `/livez`, `/readyz`, `/metrics`.
//!
//! Everybody who reaches the port may connect, so a connection gets one answer, little memory and little time; and of
//! too many at once the oldest go, so that silent ones never keep a probe waiting.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Health;

/// What the connections may take, all in all.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How many there are at once.
    connections: usize,
    /// How long one lasts, from the first byte of the request to the last of the answer.
    time: Duration,
}

/// Many times what two kubelet probes and a few scrapers need.
const LIMITS: Limits = Limits {
    connections: 32,
    time: Duration::from_secs(10),
};

/// Bytes of one request's head; a probe's and a scrape's have a few hundred.
const REQUEST_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted; more than there may be at once.
const BACKLOG: u32 = 128;

/// How long to wait when the system has no descriptor left for another connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct App {
    health: Health,
    metrics: Registry,
}

/// Answers probes and scrapes until the token is cancelled. On `[::]` both IPv6 and IPv4 are answered, as far as the
/// kernel has them. An error where the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Registry,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = listen(address)?;
    let app = Arc::new(App { health, metrics });
    let accept = accept(&listener, &app, LIMITS);
    shutdown.run_until_cancelled(accept).await;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let (socket, address) = socket_for(address)?;
    // A predecessor's connections may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket, and what to bind it to.
fn socket_for(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    if address.is_ipv4() {
        return Ok((TcpSocket::new_v4()?, address));
    }
    let is_any = address.ip().is_unspecified();
    match TcpSocket::new_v6() {
        Ok(socket) => {
            // Not as net.ipv6.bindv6only has it.
            set_ipv6_v6only(&socket, !is_any)?;
            Ok((socket, address))
        }
        Err(error) if is_any && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            Ok((TcpSocket::new_v4()?, any))
        }
        Err(error) => Err(error),
    }
}

/// Gives every connection a task. Dropping the future ends them all.
async fn accept(listener: &TcpListener, app: &Arc<App>, limits: Limits) {
    let mut connections = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of a client that is gone already there is nothing to say; the rest are short of something.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "cannot accept a connection of a probe or a scrape");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
                continue;
            }
        };
        connections.retain(|connection: &Connection| !connection.0.is_finished());
        if connections.len() >= limits.connections {
            connections.pop_front();
        }
        let connection = tokio::time::timeout(limits.time, converse(stream, app.clone()));
        connections.push_back(Connection(tokio::spawn(async move {
            // Who was too slow for an answer gets none.
            let _ = connection.await;
        })));
    }
}

/// The task of a connection, which ends with it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers one request.
async fn converse(stream: TcpStream, app: Arc<App>) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(app.answer(request.method(), request.uri().path()))
    });
    let outcome = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of a probe or a scrape failed");
    }
}

impl App {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer = match path {
            "/livez" => self.livez(),
            "/readyz" => self.readyz(),
            "/metrics" => self.metrics(),
            _ => return text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
        };
        if *method != Method::GET && *method != Method::HEAD {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        answer
    }

    fn livez(&self) -> Response<Full<Bytes>> {
        match self.health.stuck() {
            stuck if stuck.is_empty() => text(StatusCode::OK, "ok\n"),
            stuck => text(StatusCode::SERVICE_UNAVAILABLE, stuck),
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        if self.health.is_ready() {
            text(StatusCode::OK, "ok\n")
        } else {
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the first full sync is not done\n",
            )
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut rendered = String::new();
        match prometheus_client::encoding::text::encode(&mut rendered, &self.metrics) {
            Ok(()) => body(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                rendered,
            ),
            Err(error) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("metrics could not be written: {error}\n"),
            ),
        }
    }
}

fn text(status: StatusCode, contents: impl Into<Bytes>) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", contents)
}

fn body(status: StatusCode, kind: &'static str, contents: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(contents.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::thread;

    use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Three connections, and so much time that it is not what ends them.
    const PATIENT: Limits = Limits {
        connections: 3,
        time: Duration::from_secs(3600),
    };

    /// A server on a port of its own.
    struct Server {
        address: SocketAddr,
        health: Health,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: Limits) -> Self {
            let mut metrics = Registry::default();
            metrics.register("turns", "Turns", Counter::<u64>::default());
            let health = Health::new();
            let app = Arc::new(App {
                health: health.clone(),
                metrics,
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self {
                address: listener.local_addr().unwrap(),
                health,
                task: tokio::spawn(async move { accept(&listener, &app, limits).await }),
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Everything it answers to a request line.
        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            let request = format!("{request} HTTP/1.1\r\nHost: callgate\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            rest(&mut stream).await
        }
    }

    /// What comes until the other side hangs up; that it does is what most tests here wait for.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes)).await;
        match end.expect("the other side hangs up") {
            Ok(_) => {}
            // With something of ours unread, closing is a reset.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        String::from_utf8(bytes).unwrap()
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap_or("none")
    }

    #[tokio::test]
    async fn probes_and_scrapes_are_answered_and_nothing_else() {
        let server = Server::start(LIMITS).await;
        assert_eq!(status(&server.ask("GET /livez").await), "200");
        assert_eq!(status(&server.ask("GET /readyz").await), "503");
        server.health.set_ready();
        let ready = server.ask("GET /readyz?verbose").await;
        assert_eq!(status(&ready), "200");
        assert!(ready.ends_with("\r\n\r\nok\n"), "{ready}");
        let metrics = server.ask("GET /metrics").await;
        assert!(
            metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{metrics}"
        );
        assert!(
            metrics.contains("turns_total 0\n") && metrics.ends_with("# EOF\n"),
            "{metrics}"
        );
        let head = server.ask("HEAD /livez").await;
        assert!(status(&head) == "200" && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(status(&server.ask("GET /").await), "404");
        assert_eq!(status(&server.ask("GET /livez/").await), "404");
        let post = server.ask("POST /metrics").await;
        assert!(
            status(&post) == "405" && post.contains("allow: GET, HEAD\r\n"),
            "{post}"
        );
    }

    #[tokio::test]
    async fn a_loop_that_hangs_is_named_by_the_liveness_probe() {
        let server = Server::start(LIMITS).await;
        let _heartbeat = server.health.heartbeat("sync", Duration::ZERO);
        let answer = server.ask("GET /livez").await;
        assert_eq!(status(&answer), "503");
        assert!(answer.contains("sync has not turned"), "{answer}");
    }

    #[tokio::test]
    async fn silent_clients_make_room_for_one_that_asks() {
        let server = Server::start(PATIENT).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(server.connect().await);
        }
        assert_eq!(status(&server.ask("GET /livez").await), "200");
        assert_eq!(rest(&mut silent[0]).await, "", "the oldest was let go");
        for stream in &mut silent[1..] {
            stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
            assert_eq!(status(&rest(stream).await), "200", "the others were kept");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_its_request_is_let_go() {
        let server = Server::start(Limits {
            connections: 3,
            time: Duration::from_millis(1),
        })
        .await;
        assert_eq!(rest(&mut server.connect().await).await, "");
        let mut half = server.connect().await;
        // It may be gone before we have written.
        let _ = half.write_all(b"GET /livez HTTP/1.1\r\nHost: call").await;
        assert_eq!(rest(&mut half).await, "");
    }

    #[tokio::test]
    async fn a_connection_gets_one_answer() {
        let server = Server::start(LIMITS).await;
        let answer = server
            .ask("GET /livez HTTP/1.1\r\nHost: callgate\r\n\r\nGET /livez")
            .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let server = Server::start(PATIENT).await;
        let mut stream = server.connect().await;
        let endless = vec![b'a'; 4 * REQUEST_BYTES];
        // It hangs up while we write.
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await;
        let _ = stream.write_all(&endless).await;
        let answer = rest(&mut stream).await;
        assert!(["431", "none"].contains(&status(&answer)), "{answer}");
    }

    #[tokio::test]
    async fn whoever_is_connected_when_it_ends_is_let_go() {
        let server = Server::start(PATIENT).await;
        let mut silent = server.connect().await;
        assert_eq!(status(&server.ask("GET /livez").await), "200");
        server.task.abort();
        assert_eq!(rest(&mut silent).await, "");
    }

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

    #[tokio::test]
    async fn on_all_of_ipv6_both_ipv6_and_ipv4_are_answered_and_on_one_address_that_alone() {
        let listener = listen(ANY).unwrap();
        let port = listener.local_addr().unwrap().port();
        for ours in [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)] {
            TcpStream::connect((ours, port)).await.unwrap();
            listener.accept().await.unwrap();
        }
        let listener = listen((Ipv6Addr::LOCALHOST, 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Runs this on a thread whose kernel has no IPv6.
    fn without_ipv6<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        let shut = || {
            let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
            let ipv6 = ScmpArgCompare::new(0, ScmpCompareOp::Equal, libc::AF_INET6 as u64);
            let socket = ScmpSyscall::from_name("socket").unwrap();
            let answer = ScmpAction::Errno(libc::EAFNOSUPPORT);
            filter.add_rule_conditional(answer, socket, &[ipv6]).unwrap();
            filter.load().unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(shut).join().unwrap())
    }

    #[test]
    fn where_the_kernel_has_no_ipv6_all_of_it_is_all_of_ipv4_and_one_address_of_it_is_an_error() {
        without_ipv6(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                let listener = listen(ANY).unwrap();
                let address = listener.local_addr().unwrap();
                assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                TcpStream::connect((Ipv4Addr::LOCALHOST, address.port()))
                    .await
                    .unwrap();
                let error = listen((Ipv6Addr::LOCALHOST, 0).into()).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
            });
        });
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_and_a_cancelled_server_ends() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serve = |shutdown| serve(address, Health::new(), Registry::default(), shutdown);
        let error = serve(shutdown.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        shutdown.cancel();
        serve(shutdown).await.unwrap();
    }
}
