mod configs;

pub use configs::StreamsDefaults;
