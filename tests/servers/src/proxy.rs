//! A TCP proxy that breaks connections on command, to stand between hotseat and its servers.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How a connection is cut around a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Half of the request arrives.
    Torn,
    /// The request arrives; nobody is there any more to hear the answer, which the server may still be
    /// working on when the client comes back over another connection.
    Delivered,
    /// The request arrives and is answered; the answer is thrown away.
    AnswerLost,
}

/// A listener on loopback whose connections lead to a server. Gone when dropped, with its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    cuts: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Takes connections; `None` while they are refused.
    listener: Option<JoinHandle<()>>,
    connections: Vec<Arc<Connection>>,
    /// What comes from these does not pass, and nobody is told.
    muted: Vec<Side>,
    /// Before whatever passes.
    delay: Duration,
    /// The cut of the next request that has at least so many bytes.
    next: Option<(Cut, usize)>,
    ended: bool,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Bytes of the request that the server has not answered yet.
    request: AtomicUsize,
    answer_is_lost: AtomicBool,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connects to the proxy.
    Client,
    Server,
}

impl Proxy {
    /// A proxy in front of a port of this machine.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            server: SocketAddr::from((Ipv4Addr::LOCALHOST, server)),
            state: Mutex::default(),
            changed: Condvar::new(),
            cuts: AtomicUsize::new(0),
        });
        shared.listen(listener);
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes, in neither direction, and nobody is told. Connections are still taken.
    pub fn hang(&self) {
        self.shared.state().muted = vec![Side::Client, Side::Server];
    }

    /// The same in one direction only: what comes from that side.
    pub fn mute(&self, side: Side) {
        self.shared.state().muted = vec![side];
        // The other side may have been muted before.
        self.shared.changed.notify_all();
    }

    /// Ends every fault that lasts.
    pub fn pass(&self) {
        let mut state = self.shared.state();
        (state.muted, state.delay) = (Vec::new(), Duration::ZERO);
        let refuses = state.listener.is_none();
        drop(state);
        self.shared.changed.notify_all();
        if refuses {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port was ours");
            self.shared.listen(listener);
        }
    }

    /// Whatever passes waits so long before, in either direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Ends every connection now; new ones are taken.
    pub fn cut(&self) {
        let connections = std::mem::take(&mut self.shared.state().connections);
        connections.iter().for_each(|connection| connection.end());
        self.shared.cuts.fetch_add(connections.len(), Ordering::Relaxed);
    }

    /// Ends every connection, and refuses new ones until [`Self::pass`].
    pub fn refuse(&self) {
        let listener = self.shared.state().listener.take();
        if let Some(listener) = listener {
            // Wakes it; it finds that it shall not be, and the port is closed when it has ended.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
            listener.join().expect("it does not panic");
        }
        self.cut();
    }

    /// Cuts the connection of the next request that has `at_least` so many bytes.
    pub fn cut_next(&self, cut: Cut, at_least: usize) {
        self.shared.state().next = Some((cut, at_least));
    }

    /// Connections that were cut so far.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.refuse();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) {
        let shared = self.clone();
        let mut state = self.state();
        state.listener = Some(thread::spawn(move || {
            for client in listener.incoming() {
                if shared.state().listener.is_none() {
                    return;
                }
                // A client that is gone already, or a server that is away: the client learns it by its end.
                let _ended = client.and_then(|client| shared.connect(client));
            }
        }));
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
        let connection = Arc::new(Connection {
            client,
            server,
            request: AtomicUsize::new(0),
            answer_is_lost: AtomicBool::new(false),
        });
        self.state().connections.push(connection.clone());
        for (from, source) in [(Side::Client, from_client), (Side::Server, from_server)] {
            let (shared, connection) = (self.clone(), connection.clone());
            thread::spawn(move || {
                // However it ends, both ends learn it.
                let _ended = shared.pump(from, source, &connection);
                connection.end();
                shared.state().connections.retain(|other| !Arc::ptr_eq(other, &connection));
            });
        }
        Ok(())
    }

    fn pump(&self, from: Side, mut source: TcpStream, connection: &Connection) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let bytes = source.read(&mut buffer)?;
            // Its end as well is heard only once something passes.
            if !self.is_let_through(from) || bytes == 0 {
                return Ok(());
            }
            let chunk = &buffer[..bytes];
            match from {
                Side::Server => {
                    if connection.answer_is_lost.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    connection.request.store(0, Ordering::SeqCst);
                    (&connection.client).write_all(chunk)?;
                }
                Side::Client => match self.cut_of(connection, bytes) {
                    None => (&connection.server).write_all(chunk)?,
                    Some(cut) => {
                        // Before the request arrives: the answer may be here before this thread goes on.
                        connection.answer_is_lost.store(true, Ordering::SeqCst);
                        self.cuts.fetch_add(1, Ordering::Relaxed);
                        let delivered = if cut == Cut::Torn { bytes / 2 } else { bytes };
                        (&connection.server).write_all(&chunk[..delivered])?;
                        if cut != Cut::AnswerLost {
                            return Ok(());
                        }
                    }
                },
            }
        }
    }

    /// Whether a request that has just grown by `bytes` is the one to cut.
    fn cut_of(&self, connection: &Connection, bytes: usize) -> Option<Cut> {
        let request = connection.request.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let mut state = self.state();
        let (cut, _) = state.next.take_if(|(_, at_least)| request >= *at_least)?;
        Some(cut)
    }

    /// Waits as long as the faults say; `false` when the proxy has ended meanwhile.
    fn is_let_through(&self, from: Side) -> bool {
        let is_held = |state: &mut State| state.muted.contains(&from) && !state.ended;
        let state = self.changed.wait_while(self.state(), is_held);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let (delay, ended) = (state.delay, state.ended);
        drop(state);
        thread::sleep(delay);
        !ended
    }
}

impl Connection {
    fn end(&self) {
        for stream in [&self.client, &self.server] {
            // It may have ended by itself.
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each line with `ok` and counts them.
    fn server() -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(AtomicUsize::new(0));
        let counted = lines.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = counted.clone();
                thread::spawn(move || {
                    let mut byte = [0];
                    while (&stream).read(&mut byte).is_ok_and(|read| read == 1) {
                        if byte == *b"\n" {
                            lines.fetch_add(1, Ordering::SeqCst);
                            if (&stream).write_all(b"ok").is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        (port, lines)
    }

    fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// Whether the line was answered; a connection that ends has not answered.
    fn ask(mut stream: &TcpStream, line: &[u8]) -> bool {
        let mut answer = [0; 2];
        stream.write_all(line).is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"ok"
    }

    fn until(done: impl Fn() -> bool) {
        for _ in 0..3_000 {
            if done() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not come true");
    }

    #[test]
    fn what_is_cut_is_cut_where_it_was_asked() {
        let rows = [(Cut::Torn, 0), (Cut::Delivered, 1), (Cut::AnswerLost, 1)];
        for (cut, arrived) in rows {
            let (port, lines) = server();
            let proxy = Proxy::start(port);
            let (first, second) = (connect(&proxy).unwrap(), connect(&proxy).unwrap());
            proxy.cut_next(cut, 8);
            assert!(ask(&second, b"short\n"), "{cut:?}");
            assert!(!ask(&first, b"long enough\n"), "{cut:?}");
            assert!(ask(&second, b"long enough\n"), "{cut:?}: once");
            until(|| lines.load(Ordering::SeqCst) == 2 + arrived);
            assert_eq!(proxy.cuts(), 1);
        }
    }

    #[test]
    fn a_fault_that_lasts_ends() {
        let (port, lines) = server();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        assert!(ask(&stream, b"\n"));
        proxy.hang();
        let waiting = stream.try_clone().unwrap();
        let asked = thread::spawn(move || ask(&waiting, b"\n"));
        thread::sleep(Duration::from_millis(200));
        assert!(!asked.is_finished());
        proxy.pass();
        assert!(asked.join().unwrap());

        for (side, arrived) in [(Side::Client, 0), (Side::Server, 1)] {
            let before = lines.load(Ordering::SeqCst);
            proxy.mute(side);
            let waiting = stream.try_clone().unwrap();
            let asked = thread::spawn(move || ask(&waiting, b"\n"));
            thread::sleep(Duration::from_millis(200));
            assert!(!asked.is_finished(), "{side:?}");
            assert_eq!(lines.load(Ordering::SeqCst), before + arrived, "{side:?}");
            proxy.pass();
            assert!(asked.join().unwrap(), "{side:?}");
        }

        proxy.delay(Duration::from_millis(50));
        let started = std::time::Instant::now();
        assert!(ask(&stream, b"\n"));
        assert!(started.elapsed() >= Duration::from_millis(100), "both ways");
        proxy.pass();

        proxy.cut();
        assert!(!ask(&stream, b"\n"));
        assert!(ask(&connect(&proxy).unwrap(), b"\n"));

        proxy.refuse();
        assert!(connect(&proxy).is_err());
        proxy.pass();
        assert!(ask(&connect(&proxy).unwrap(), b"\n"));
    }
}
