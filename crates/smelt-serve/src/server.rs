//! Connections: accepted, bounded, given time limits, ended with care.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use smelt_generate::engine::EngineHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep};
use tokio_io_timeout::TimeoutStream;

use crate::app::{App, ServedModel, SharedApp};
use crate::options::{Limits, ServeOptions};
use crate::router::router;

/// Most threads that serve connections. They wait, mostly; the cores belong to the engine.
const THREADS: usize = 2;
/// Threads that render templates and tokenize prompts.
const BLOCKING_THREADS: usize = 4;
/// How often it is asked whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// Pause after the system refused a connection, as it does where too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const HEADER_BYTES: usize = 64 << 10;

/// What keeps a server from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen at {address}")]
    Bind {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no threads, or no timers.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
}

/// A server that has its address.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    app: SharedApp,
}

impl Server {
    /// Takes the address `host`:`port`; port 0 means any that is free. Nothing is answered before [`Server::run`].
    ///
    /// `models` belong to those of `handle`, in order.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn bind(
        host: &str,
        port: u16,
        handle: EngineHandle,
        models: Vec<ServedModel>,
        options: ServeOptions,
    ) -> Result<Self, ServeError> {
        let address = format!("{host}:{port}");
        let failed = |source| ServeError::Bind { address: address.clone(), source };
        let listener = StdListener::bind((host.trim_matches(['[', ']']), port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads())
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("smelt-serve")
            .enable_all()
            .build()
            .map_err(ServeError::Start)?;
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(listener).map_err(ServeError::Start)?
        };
        Ok(Self { runtime, listener, address, app: Arc::new(App::new(handle, models, options, address)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stops` says so, which is asked twenty times a second; then takes no more requests, and returns
    /// when those that it has are answered.
    pub fn run(self, stops: impl Fn() -> bool + Send) {
        let Self { runtime, listener, app, .. } = self;
        runtime.block_on(serve(listener, app, stops));
        runtime.shutdown_background();
    }
}

/// Threads that serve connections: one of two cores, so that the engine has one for itself.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, THREADS)
}

async fn serve(listener: TcpListener, app: SharedApp, stops: impl Fn() -> bool) {
    let places = Arc::new(Semaphore::new(app.options.limits.connections));
    let graceful = GracefulShutdown::new();
    let router = router(app.clone());
    let mut ticks = interval(STOP_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => if stops() { break },
            accepted = accept(&listener, &places) => {
                let (stream, place) = accepted;
                let (router, limits, watcher) = (router.clone(), app.options.limits.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection(stream, router, &limits, watcher).await;
                    drop(place);
                });
            }
        }
    }
    app.close();
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection, as soon as there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, limits: &Limits, watcher: Watcher) {
    // Tokens are small and should leave at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("a connection delays what is small: {error}");
    }
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(limits.write_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        // Clients that leave are nothing unusual.
        tracing::debug!("a connection ended: {error}");
    }
}
