//! The example.

use std::sync::Arc;
use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{
    Called, Consumed, Grouped, Materialized, ProcessingHandler, Produced, Quarantine, StreamsBuilder,
    Topology, TopologyError,
};
use headwater_stage::topic;

use crate::{Payment, Rates};

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// It does not know pounds.
    First,
    Second,
}

impl Version {
    fn check(self, payment: Payment) -> Result<Payment, String> {
        match (self, payment.currency.as_str()) {
            (_, "EUR" | "USD") | (Self::Second, "GBP") => Ok(payment),
            (_, other) => Err(format!("what are {other}?")),
        }
    }
}

/// Payments are checked, changed into cents and summed.
pub fn topology(
    application_id: &str,
    version: Version,
    rates: Arc<Rates>,
) -> Result<Topology, TopologyError> {
    let mut builder = StreamsBuilder::new(application_id);
    builder
        .quarantine(Quarantine::new().version(format!("{version:?}")))
        .processing_handler(ProcessingHandler::Quarantine);
    builder
        .stream(&topic(application_id, "payments"), Consumed::with(string(), json::<Payment>()))
        .try_map_values(move |payment| version.check(payment))
        .named("check")
        .call(
            move |_, payment: Payment| {
                let cents = rates.clone().cents(payment.currency);
                async move { Ok::<_, String>(cents.await? * payment.units) }
            },
            Called::named("change")
                .with(string(), json())
                .max_in_flight(8)
                .retries(8, Duration::from_millis(5)),
        )
        .group_by_key(Grouped::with(string(), json()))
        .reduce(|sum, cents| sum + cents, Materialized::named("balances"))
        .to_stream()
        .without_tombstones()
        .to(&topic(application_id, "balances"), Produced::with(string(), json()));
    builder.build()
}
