//! The standalone proxy's log: where records and audit events become lines on standard output.
//!
//! Decides the format and what is left out. Trusts `PORTCULLIS_LOG`. Never makes a request wait for
//! whoever reads the log: lines go through a bounded queue to one thread, and where it is full they
//! are dropped and counted.

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

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object on each line, with all fields at its top.
    #[default]
    Json,
    /// For people.
    Text,
    /// A short line for each audit event and each warning, unless [`VARIABLE`] asks for something:
    /// then [`Format::Text`].
    Short,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("`{VARIABLE}` holds `{value}`, which is not a log filter")]
    Filter {
        /// What it holds.
        value: String,
        /// The mistake.
        source: ParseError,
    },
    /// The filter is not text.
    #[error("`{VARIABLE}` is not UTF-8")]
    NotText,
    /// The thread that writes could not be started.
    #[error("the thread that writes the log could not be started")]
    Thread(#[source] io::Error),
    /// Something else in the process logs already.
    #[error("the process has a log already")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The environment variable with the filter: `level` and `target=level`, separated by commas.
pub const VARIABLE: &str = "PORTCULLIS_LOG";
/// The filter where the variable is not set.
///
/// Pingora reports each second of waiting for an upgrade as an error; its outcome is an event or an
/// error of ours.
pub const DEFAULT_FILTER: &str = "info,pingora=warn,pingora_core::server::transfer_fd=off";

/// The running log.
#[derive(Clone, Debug)]
pub struct Logging {
    queue: Queue,
}

/// Starts the log on standard output for the whole process: our own events, and the `log` records
/// of Pingora.
///
/// # Errors
/// Where the filter is malformed or the process has a log already.
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
    /// Waits until what was logged so far is written, or until that time is over. For the end of
    /// the process, which takes the queue with it.
    pub fn flush(&self, most: Duration) {
        let (done, written) = sync_channel(1);
        // Where the queue is full even for this, its lines will not be written in time anyway.
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
    // At their loudest other crates write whole requests down, cookies and codes with them. No
    // filter lets that out.
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

/// The `log` records of other crates as events, without the place in their source, which is a path
/// of the machine that built this.
#[derive(Default)]
struct Records(LogTracer);

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let level = if is_clients_fault(record) {
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

/// Pingora calls it an error when a client breaks off a handshake, as port scanners and load
/// balancers do all day.
fn is_clients_fault(record: &Record<'_>) -> bool {
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

/// Ends when the last sender is gone. A line that cannot be written is dropped; the next one is
/// tried again.
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

/// One event on its way to the queue: whole or not at all.
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

/// Lines; about two megabytes of audit events.
const QUEUED: usize = 4_096;

#[cfg(test)]
mod tests;
