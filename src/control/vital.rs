use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Reports threads and tasks that the process cannot do without, when one of them ends.
#[derive(Clone, Debug)]
pub struct Vital(UnboundedSender<&'static str>);

/// The names of those that ended.
pub type Ended = UnboundedReceiver<&'static str>;

/// A thread or task that is running, for as long as this lives.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    ended: UnboundedSender<&'static str>,
}

impl Vital {
    /// The reporter, and where its reports arrive.
    pub fn new() -> (Self, Ended) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports `name` when the value is dropped, also by a panic.
    pub fn watch(&self, name: &'static str) -> Running {
        Running { name, ended: self.0.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without a receiver the process is ending anyway.
        let _reported = self.ended.send(self.name);
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
}
