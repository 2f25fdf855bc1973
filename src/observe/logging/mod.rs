//! The log of the standalone proxy, which writes records and audit events to standard output.
//!
//! Decides the format and which records are left out. Trusts `PORTCULLIS_LOG`. Never makes a
//! request wait for the reader of the log: lines pass through a bounded queue to one thread, and
//! are dropped and counted if it is full.

mod json;
mod short;

use std::env::VarError;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_log::log::{self, Level, Log, Metadata, Record};
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use super::metrics::metrics;

/// The format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, with all fields at the top level.
    #[default]
    Json,
    /// Text for humans.
    Text,
    /// A short line for each audit event and each warning. If [`VARIABLE`] is set, [`Format::Text`]
    /// is used instead.
    Short,
}

/// The reason why no log could be started.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is malformed.
    #[error("`{VARIABLE}` is `{value}`, which is not a log filter")]
    Filter {
        /// The value of the variable.
        value: String,
        /// The error in it.
        source: ParseError,
    },
    /// The filter is not text.
    #[error("`{VARIABLE}` is not UTF-8")]
    NotText,
    /// The writer thread could not be started.
    #[error("the log writer thread could not be started")]
    Thread(#[source] io::Error),
    /// The process has another logger already.
    #[error("the process already has a logger")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The environment variable with the filter: `level` and `target=level`, separated by commas.
pub const VARIABLE: &str = "PORTCULLIS_LOG";
/// The filter if the variable is not set.
///
/// Pingora logs each second of waiting during an upgrade as an error. The outcome of the upgrade is
/// logged by our own events and errors.
pub const DEFAULT_FILTER: &str = "info,pingora=warn,pingora_core::server::transfer_fd=off";

/// The running log.
#[derive(Clone, Debug)]
pub struct Logging {
    queue: Queue,
}

/// Starts the log on standard output for the whole process: for our own events and for the `log`
/// records of Pingora.
///
/// # Errors
/// If the filter is malformed, or the process has a logger already.
pub fn init(format: Format) -> Result<Logging, LoggingError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(value) => {
            EnvFilter::try_new(&value).map_err(|source| LoggingError::Filter { value, source })?
        }
        Err(VarError::NotPresent) => EnvFilter::new(DEFAULT_FILTER),
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
    };
    let format = match format {
        Format::Short if std::env::var_os(VARIABLE).is_some() => Format::Text,
        format => format,
    };
    let queue = Queue::start(io::stdout()).map_err(LoggingError::Thread)?;
    let subscriber = subscriber(format, filter, queue.clone());
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| LoggingError::Installed(error.into()))?;
    log::set_boxed_logger(Box::new(Records::default()))
        .map_err(|error| LoggingError::Installed(error.into()))?;
    log::set_max_level(LevelFilter::current().as_log());
    Ok(Logging { queue })
}

impl Logging {
    /// Waits until all lines so far are written, at most for this time. Call it before the process
    /// exits, which would discard the queue.
    pub fn flush(&self, most: Duration) {
        let (done, written) = sync_channel(1);
        // If even this message does not fit into the queue, its lines would not be written in time
        // anyway.
        if self.queue.0.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(most);
        }
    }
}

fn subscriber<W>(format: Format, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    // At their most verbose levels, other crates log whole requests with cookies and codes. No
    // filter can enable those levels.
    let quiet = FilterFn::new(|meta| {
        meta.target().starts_with("portcullis") || *meta.level() <= tracing::Level::INFO
    });
    match format {
        Format::Json => {
            let layer = layer.event_format(json::Json);
            Box::new(Registry::default().with(filter).with(quiet).with(layer))
        }
        Format::Text => Box::new(Registry::default().with(filter).with(quiet).with(layer)),
        Format::Short => Box::new(
            Registry::default()
                .with(filter)
                .with(quiet)
                .with(layer.event_format(short::Short)),
        ),
    }
}

/// Converts the `log` records of other crates to events. Drops the source location, which is a path
/// of the build machine.
#[derive(Default)]
struct Records(LogTracer);

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let level = if is_caused_by_client(record) {
            Level::Info
        } else {
            record.level()
        };
        let (target, module) = (record.target(), record.module_path());
        self.0.log(
            &Record::builder()
                .args(*record.args())
                .level(level)
                .target(target)
                .module_path(module)
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Returns `true` if the client caused this error: Pingora logs aborted handshakes as errors, but
/// port scanners and load balancers abort them all the time.
fn is_caused_by_client(record: &Record<'_>) -> bool {
    record.level() == Level::Error
        && matches!(
            record.target(),
            "pingora_core::services::listening" | "pingora_core::apps"
        )
        && record.args().to_string().contains("handshake")
}

#[derive(Clone, Debug)]
struct Queue(SyncSender<Message>);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Queue {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUED);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&receiver, to))?;
        Ok(Self(sender))
    }
}

/// Writes lines until the last sender is dropped. A line that cannot be written is dropped; the
/// next one is tried again.
fn write_all(queue: &Receiver<Message>, to: impl Write) {
    let mut to = io::BufWriter::new(to);
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    if to.write_all(&line).is_err() {
                        metrics().log_line_dropped();
                    }
                }
                Message::Flush(done) => {
                    let _ = to.flush();
                    let _ = done.try_send(());
                }
            }
            next = queue.try_recv().ok();
        }
        let _ = to.flush();
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line {
            queue: self,
            text: Vec::new(),
        }
    }
}

/// An event on its way to the queue: complete or not at all.
struct Line<'a> {
    queue: &'a Queue,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.0.try_send(Message::Line(text))
        {
            metrics().log_line_dropped();
        }
    }
}

/// The capacity of the queue in lines: about two megabytes of audit events.
const QUEUED: usize = 4_096;

#[cfg(test)]
mod tests;
