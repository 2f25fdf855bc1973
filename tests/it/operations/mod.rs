//! Starting, reloading, upgrading, stopping; faults of the machine, the store and the network.

mod bad_days;
mod configuration;
mod embedding;
mod lifecycle;
mod listeners;
mod logs;
mod stop;
mod store;
