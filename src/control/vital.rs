use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Reports threads and tasks that the process cannot do without, when one of them ends.
#[derive(Clone, Debug)]
pub struct Vital(UnboundedSender<&'static str>);

/// The names of those that ended.
pub type Ended = UnboundedReceiver<&'static str>;

/// A thread or task that is running, for as long as this lives.
#[derive(Debug)]
pub struct VitalGuard {
    name: &'static str,
    ended: UnboundedSender<&'static str>,
    finished: bool,
}

/// The runtime of background tasks, and the reporter of those that end before their work is done.
#[derive(Clone, Debug)]
pub struct Background {
    runtime: Handle,
    vital: Vital,
}

impl Background {
    /// Runs tasks on `runtime`, and reports to `vital`.
    pub const fn new(runtime: Handle, vital: Vital) -> Self {
        Self { runtime, vital }
    }

    /// Starts a task. Its return is the end of its work; a panic is reported under `name`, and so
    /// is a lost runtime.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = self.vital.watch(name);
        self.runtime.spawn(async move {
            task.await;
            running.finish();
        });
    }
}

impl VitalGuard {
    /// Ends without a report.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Vital {
    /// The reporter, and where its reports arrive.
    pub fn new() -> (Self, Ended) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports `name` when the value is dropped, also by a panic.
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
    async fn background_task_that_panics_is_reported_and_one_that_returns_is_not() {
        let (vital, mut ended) = Vital::new();
        let background = Background::new(Handle::current(), vital);
        background.spawn("finished", async {});
        background.spawn("lost", async { panic!("on purpose") });
        assert_eq!(ended.recv().await, Some("lost"));
        drop(background);
        assert_eq!(ended.recv().await, None, "all have ended");
    }
}
