//! Panics in any thread while the process starts.
//!
//! Decides that a panic ends the process until it serves; from then on `shutdown` watches the
//! threads and tasks that the process needs. Trusts nothing that the panicking thread holds. Never
//! unwinds a thread during the start, because the unwinding may wait for ever.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write as _};
use std::panic::{self, Location, PanicHookInfo};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Ends the process with an error at a panic in any thread, until this value is dropped.
pub(super) struct PanicGuard {
    armed: Arc<AtomicBool>,
}

impl PanicGuard {
    /// Installs the panic hook of the process. Panics after the drop go to the hook before it.
    pub(super) fn install() -> Self {
        let armed = Arc::new(AtomicBool::new(true));
        let (is_armed, previous) = (Arc::clone(&armed), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            if is_armed.load(Ordering::Acquire) {
                end_the_process(info);
            }
            previous(info);
        }));
        Self { armed }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        self.armed.store(false, Ordering::Release);
    }
}

/// Prints the panic as one line, and exits.
// If tokio cannot create the second thread of a runtime, it panics. The unwinding then drops the
// runtime's thread pool, which waits without a limit for the first thread, and nothing stops that
// thread. So the exit must come before the unwinding. A backtrace is not printed: with too little
// memory, the printing of one can deadlock in the standard library.
#[expect(
    clippy::exit,
    reason = "a return would unwind the thread, which may never end"
)]
fn end_the_process(info: &PanicHookInfo<'_>) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::AcqRel) {
        // Another thread panicked first and is about to exit. One panic often causes others, and
        // only the first shows the cause.
        loop {
            thread::park();
        }
    }
    let thread = thread::current();
    let panic = Panic {
        thread: thread.name().unwrap_or("unnamed"),
        message: info.payload_as_str().unwrap_or("no message"),
        location: info.location(),
    };
    // The log needs memory and a thread, and either may be the cause of the panic.
    let _written = writeln!(io::stderr().lock(), "error: {panic}");
    process::exit(EXIT_CODE)
}

/// A panic, displayed on one line and without an allocation.
struct Panic<'a> {
    thread: &'a str,
    message: &'a str,
    location: Option<&'a Location<'a>>,
}

impl Display for Panic<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the start failed: thread `{}` panicked: ", self.thread)?;
        for (index, line) in self.message.lines().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(line.trim())?;
        }
        match self.location {
            Some(location) => write!(f, " ({}:{})", location.file(), location.line()),
            None => Ok(()),
        }
    }
}

/// The exit code of every failed start.
const EXIT_CODE: i32 = 2;

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Output};

    use super::*;

    /// Runs this test again in a process of its own, because the hook is the process's.
    fn panic_in_a_thread(when: &str) -> Output {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("app::panics::tests::only_a_panic_before_the_drop_ends_the_process")
            .env(WHEN, when)
            .output()
            .unwrap()
    }

    #[test]
    fn only_a_panic_before_the_drop_ends_the_process() {
        if let Ok(when) = env::var(WHEN) {
            let _kept = Some(PanicGuard::install()).filter(|_| when == "before");
            let task = thread::Builder::new().name("task".to_owned());
            let task = task.spawn(|| panic!("on purpose")).unwrap();
            assert!(task.join().is_err());
            return;
        }
        let before = panic_in_a_thread("before");
        let errors = String::from_utf8(before.stderr).unwrap();
        assert_eq!(before.status.code(), Some(EXIT_CODE), "{errors}");
        let line = "error: the start failed: thread `task` panicked: on purpose (";
        assert!(
            errors.starts_with(line) && errors.lines().count() == 1,
            "{errors}"
        );
        let after = panic_in_a_thread("after");
        assert!(after.status.success(), "{after:?}");
        let errors = String::from_utf8(after.stderr).unwrap();
        assert!(errors.contains("on purpose"), "{errors}");
    }

    const WHEN: &str = "PORTCULLIS_TEST_PANIC";

    #[test]
    fn panic_is_displayed_on_one_line() {
        let panic = Panic {
            thread: "proxy",
            message: "assertion failed\n  left: 1\n right: 2",
            location: None,
        };
        assert_eq!(
            panic.to_string(),
            "the start failed: thread `proxy` panicked: assertion failed left: 1 right: 2"
        );
    }
}
