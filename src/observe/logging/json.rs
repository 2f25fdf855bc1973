//! One JSON object for each event, with all fields at the top level.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde::de::IgnoredAny;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::audit::JSON_FIELDS;

/// Writes events as JSON. `tracing` has no list or object fields, so the formatter of
/// `tracing-subscriber` would write those as strings, which every reader would have to parse again.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
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
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Line {
            text: "{".to_owned(),
        };
        line.field("timestamp", &time);
        line.field("level", metadata.level().as_str());
        event.record(&mut line);
        line.field("target", metadata.target());
        writeln!(writer, "{}}}", line.text)
    }
}

struct Line {
    text: String,
}

impl Line {
    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        if let (Ok(name), Ok(value)) = (serde_json::to_string(name), serde_json::to_string(value)) {
            self.raw(&name, &value);
        }
    }

    fn raw(&mut self, name: &str, value: &str) {
        let comma = if self.text.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{comma}{name}:{value}");
    }

    fn text(&mut self, field: &Field, value: &str) {
        // The source location of a `log` record; `target` is enough.
        if field.name().starts_with("log.") {
            return;
        }
        let is_json = JSON_FIELDS.contains(&field.name())
            && value.starts_with(['[', '{'])
            && !value.contains(char::is_control)
            && serde_json::from_str::<IgnoredAny>(value).is_ok();
        match serde_json::to_string(field.name()) {
            Ok(name) if is_json => self.raw(&name, value),
            _ => self.field(field.name(), value),
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field.name(), &value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), &value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), &value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), &value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
