//! From what users see and click to what advertisers pay, in four stages, each as parallel as its topic has partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater::streams::serdes::{i64, json, string};
use headwater::streams::{
    Consumed, Grouped, KStream, KTable, Materialized, Produced, SessionWindows, StreamsBuilder, Topology,
    TopologyError, Windowed,
};
use headwater_stage::topic;
use serde::{Deserialize, Serialize};

/// Whoever does nothing for this long has gone.
pub const GAP: Duration = Duration::from_secs(30 * 60);
/// How much later than others an event may come.
pub const GRACE: Duration = Duration::from_secs(10 * 60);

/// An event, in `views` or in `clicks`: a user saw an advertisement, or clicked at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    pub advertisement: String,
}

/// An entity: who pays how much for a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertisement {
    pub advertiser: String,
    pub cents: i64,
}

/// An entity: what an advertisement has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    pub advertiser: String,
    pub conversions: i64,
    pub cents: i64,
}

/// What a user saw of an advertisement, and how often it was clicked at, within one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub views: i64,
    pub clicks: i64,
}

impl Seen {
    /// A click converts if there is a view for it.
    pub fn conversions(self) -> i64 {
        self.views.min(self.clicks)
    }
}

/// A session by advertisements.
type Session = BTreeMap<String, Seen>;

pub fn topology(application_id: &str) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new(application_id);
    let sessions = sessions(&builder, application_id);
    let sums = sums(&conversions(&sessions));
    let advertisements = builder.table(
        &topic(application_id, "advertisements"),
        Consumed::with(string(), json::<Advertisement>()),
        Materialized::named("advertisements").json(),
    );
    sums.join(&advertisements, |conversions, advertisement| Bill {
        advertiser: advertisement.advertiser.clone(),
        conversions: *conversions,
        cents: *conversions * advertisement.cents,
    })
    .to(&topic(application_id, "bills"), Produced::with(string(), json()));
    builder.build()
}

/// Views and clicks of a user, together, until the user has gone.
fn sessions(builder: &StreamsBuilder, application_id: &str) -> KStream<Windowed<String>, Session> {
    let touches = |name: &str, seen: Seen| {
        builder
            .stream(&topic(application_id, name), Consumed::with(string(), json::<Touch>()))
            .map_values(move |touch| (touch.advertisement, seen))
    };
    touches("views", Seen { views: 1, clicks: 0 })
        .merge(&touches("clicks", Seen { views: 0, clicks: 1 }))
        .group_by_key(Grouped::with(string(), json()))
        .windowed_by_session(SessionWindows::with_gap(GAP).grace(GRACE))
        .emit_on_close()
        .aggregate(
            Session::new,
            |_, touch, session| add(session, [touch]),
            |_, earlier, later| add(earlier, later),
            Materialized::named("sessions").value_serde(json()),
        )
        .to_stream()
        .without_tombstones()
}

fn add(mut session: Session, more: impl IntoIterator<Item = (String, Seen)>) -> Session {
    for (advertisement, Seen { views, clicks }) in more {
        let seen = session.entry(advertisement).or_default();
        seen.views += views;
        seen.clicks += clicks;
    }
    session
}

/// What each session brought each advertisement.
fn conversions(sessions: &KStream<Windowed<String>, Session>) -> KStream<String, i64> {
    sessions
        .flat_map(|_, session| {
            session.into_iter().map(|(advertisement, seen)| (advertisement, seen.conversions()))
        })
        .filter(|_, conversions| *conversions > 0)
}

/// What all sessions together brought each advertisement.
fn sums(conversions: &KStream<String, i64>) -> KTable<String, i64> {
    conversions
        .group_by_key(Grouped::with(string(), i64()).named("conversions"))
        .reduce(|sum, more| sum + more, Materialized::named("conversions-by-advertisement").json())
}
