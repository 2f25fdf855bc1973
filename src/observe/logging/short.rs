//! One short line per event, for the terminal of `portcullis demo`.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::audit;

/// Writes audit events and warnings. Other records about a request only add details to its audit
/// event.
pub(super) struct Short;

impl<S, N> FormatEvent<S, N> for Short
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut fields = Fields::default();
        event.record(&mut fields);
        if metadata.target() == audit::TARGET {
            return fields.write_audit_event(&mut writer);
        }
        match *metadata.level() {
            Level::ERROR => writeln!(writer, "  error: {}", fields.message),
            Level::WARN if fields.request_id.is_empty() => {
                writeln!(writer, "  warning: {}", fields.message)
            }
            // The proxy started serving or stopped.
            Level::INFO if metadata.target() == APP => writeln!(writer, "  {}", fields.message),
            _ => Ok(()),
        }
    }
}

/// The target of records about the process as a whole.
const APP: &str = "portcullis::app";

#[derive(Default)]
struct Fields {
    event: String,
    outcome: String,
    reason: String,
    email: String,
    application: String,
    request_id: String,
    message: String,
}

impl Fields {
    fn write_audit_event(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Self {
            event,
            outcome,
            reason,
            email,
            application,
            request_id,
            ..
        } = self;
        let who = if email.is_empty() { "anonymous" } else { email };
        write!(writer, "  {who}")?;
        if !application.is_empty() {
            write!(writer, " -> {application}")?;
        }
        write!(writer, ": {event} {outcome}")?;
        if !reason.is_empty() {
            write!(writer, ", {reason} (request {request_id})")?;
        }
        writeln!(writer)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "event" => &mut self.event,
            "outcome" => &mut self.outcome,
            "reason" => &mut self.reason,
            "email" => &mut self.email,
            "application" => &mut self.application,
            "request_id" => &mut self.request_id,
            "message" => &mut self.message,
            _ => return,
        };
        value.clone_into(place);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "request_id" | "message") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}
