//! [`Patient`]: a socket that waits for slow clients, but not forever.
//!
//! Slow readers and writers are caught here, below HTTP, because only here all cases look the same: a client that never
//! sends its preface, dribbles its head, stays silent after an answer, or does not take the answer. What a silent socket
//! means depends on whether a request is being answered, which [`Activity`] tells.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::ServerPlan;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    h2: AtomicBool,
    /// Whoever waits for bytes must look at the clock again when nothing is in flight any more.
    waits: AtomicWaker,
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>, h2: bool) -> Ticket {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.h2.store(h2, Ordering::Relaxed);
        Ticket(Arc::clone(self))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.waits.wake();
        }
    }
}

/// A socket with timeouts.
pub(super) struct Patient<S> {
    socket: S,
    activity: Arc<Activity>,
    /// How many requests had begun when the connection last waited.
    begun: u64,
    /// Bytes of a head have arrived, but no request yet.
    in_head: bool,
    read: Timer,
    write: Timer,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
}

impl<S> Patient<S> {
    /// The first head is due now, even if none of its bytes is there.
    pub(super) fn new(socket: S, activity: Arc<Activity>, plan: &ServerPlan) -> Self {
        let &ServerPlan { header_timeout, idle_timeout, write_timeout, .. } = plan;
        let (read, write) = (Timer::default(), Timer::default());
        Self {
            socket,
            activity,
            begun: 0,
            in_head: true,
            read,
            write,
            header_timeout,
            idle_timeout,
            write_timeout,
        }
    }

    /// Forgets the wait for a head that has become a request since.
    fn note_requests(&mut self) {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.in_head = false;
            self.read.stop();
        }
    }

    fn busy(&self) -> bool {
        self.activity.in_flight.load(Ordering::Relaxed) > 0
    }

    fn waited_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note_requests();
        // First the waker, then the look: a request that ends in between is not missed.
        self.activity.waits.register(cx.waker());
        if self.busy() {
            self.read.stop();
            return Poll::Pending;
        }
        let (within, what) = if self.in_head {
            (self.header_timeout, "the head of a request took too long")
        } else {
            (self.idle_timeout, "no request came")
        };
        self.read.poll(within, cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, what)))
    }

    fn bytes_came(&mut self) {
        self.note_requests();
        if self.busy() {
            return;
        }
        if self.activity.h2.load(Ordering::Relaxed) {
            // A ping or a window update; a head cannot be told from these down here.
            self.read.stop();
        } else if !self.in_head {
            self.in_head = true;
            self.read.stop();
        }
    }

    fn wrote<T>(
        &mut self,
        wrote: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.write.stop();
            return wrote;
        }
        let what = "the client does not take the answer";
        self.write
            .poll(self.write_timeout, cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, what)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending => self.waited_for_bytes(cx),
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    self.bytes_came();
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(wrote, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.wrote(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.wrote(ended, cx)
    }
}

/// A timer that is allocated once and started again for each wait.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Timer {
    fn stop(&mut self) {
        self.running = false;
    }

    /// Goes on waiting, or begins to; ready once `within` has passed since the beginning.
    fn poll(&mut self, within: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(within)));
        if !self.running {
            self.running = true;
            sleep.as_mut().reset(Instant::now() + within);
        }
        sleep.as_mut().poll(cx)
    }
}
