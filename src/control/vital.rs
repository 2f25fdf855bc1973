use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Reports the end of threads and tasks without which the process cannot work.
#[derive(Clone, Debug)]
pub struct Vital(UnboundedSender<&'static str>);

/// The names of the threads and tasks that ended.
pub type Ended = UnboundedReceiver<&'static str>;

/// A running thread or task. Dropping it reports the end.
#[derive(Debug)]
pub struct VitalGuard {
    name: &'static str,
    ended: UnboundedSender<&'static str>,
    finished: bool,
}

/// Spawns background tasks, and reports those that end before their work is done.
#[derive(Clone, Debug)]
pub struct Background {
    runtime: Handle,
    vital: Vital,
}

impl Background {
    /// Returns a spawner on `runtime` that reports to `vital`.
    pub const fn new(runtime: Handle, vital: Vital) -> Self {
        Self { runtime, vital }
    }

    /// Starts a task. It may return when its work is done; a panic, or the loss of the runtime, is
    /// reported under `name`.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = self.vital.watch(name);
        self.runtime.spawn(async move {
            // The guard is dropped in any other case, a panic or the end of the runtime, and
            // reports.
            task.await;
            running.finish();
        });
    }
}

impl VitalGuard {
    /// Marks the work as done, so that the end is not reported.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Vital {
    /// Returns a reporter, and the receiver of its reports.
    pub fn new() -> (Self, Ended) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports `name` when the value is dropped, including by a panic.
    pub fn watch(&self, name: &'static str) -> VitalGuard {
        VitalGuard {
            name,
            ended: self.0.clone(),
            finished: false,
        }
    }
}

impl Drop for VitalGuard {
    fn drop(&mut self) {
        if !self.finished {
            // Without a receiver the process is ending anyway.
            let _reported = self.ended.send(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn end_and_panic_are_reported() {
        let (vital, mut ended) = Vital::new();
        let running = vital.watch("one");
        assert!(ended.try_recv().is_err());
        drop(running);
        assert_eq!(ended.recv().await, Some("one"));
        let running = vital.watch("two");
        let task = tokio::spawn(async move {
            let _running = running;
            panic!("on purpose");
        });
        assert!(task.await.is_err());
        assert_eq!(ended.recv().await, Some("two"));
    }

    #[tokio::test]
    async fn panicking_background_task_is_reported_and_finished_is_not() {
        let (vital, mut ended) = Vital::new();
        let background = Background::new(Handle::current(), vital);
        background.spawn("finished", async {});
        background.spawn("lost", async { panic!("on purpose") });
        assert_eq!(ended.recv().await, Some("lost"));
        drop(background);
        assert_eq!(ended.recv().await, None, "all have ended");
    }
}
