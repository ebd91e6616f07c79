//! Members against the broker's own coordinator, with delays, lost answers, restarts and topics that come and go.
//!
//! No two processes that the coordinator counts as members work on one partition, and when all is quiet every partition
//! is worked on. `HEADWATER_SIM_SEEDS=1000` runs more, `HEADWATER_SIM_SEED=7` replays one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_coordinator::{
    Client, ConsumerGroupDescription, ConsumerGroupHeartbeat, Coordinator, Effect, Failure, NewPartitions,
    NewTopic, Request, Response, Settings, StateRecord, TopicRef,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::member::{Act, Answer, Beat, Member, Places, TopicId};
use crate::ClientError;

const GROUP: &str = "g";
const MEMBERS: usize = 6;
/// Topics `t0` to `t2`.
const TOPICS: u32 = 3;
/// How long a request may take before it counts as lost.
const TIMEOUT_MS: i64 = 3_000;
const STORM_MS: i64 = 300_000;
const QUIET_MS: i64 = 400_000;

#[derive(Debug)]
enum Event {
    /// A heartbeat reaches the coordinator, unless it is lost.
    Arrives {
        beat: Beat,
        lost: bool,
        answer_lost: bool,
    },
    Answered(Result<Answer, ClientError>),
    Looked {
        ids: BTreeSet<TopicId>,
        failed: bool,
    },
    Found {
        round: u64,
    },
    LetGo {
        places: Places,
    },
    /// The member may have something to do, unless it was woken since.
    Wakes {
        at: i64,
    },
    /// The process ends, and another one begins.
    Ends,
    /// Something happens to topics or to the coordinator.
    World,
}

struct Process {
    /// Which life of the process; what comes for an earlier one is dropped.
    life: u32,
    instance: Option<String>,
    member: Member,
    works_on: Places,
    /// When it is woken next.
    wakes: Option<i64>,
}

impl Process {
    fn id(&self, who: usize) -> String {
        format!("p{who}-{}", self.life)
    }
}

struct World {
    random: StdRng,
    now: i64,
    coordinator: Coordinator,
    settings: Settings,
    log: Vec<StateRecord>,
    tickets: u64,
    processes: Vec<Process>,
    /// By time and order; who it is for, in which life.
    events: BTreeMap<(i64, u64), (usize, u32, Event)>,
    order: u64,
    storm: bool,
    handed: usize,
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("HEADWATER_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HEADWATER_SIM_SEEDS").unwrap_or(60)).collect(),
    }
}

#[test]
fn no_partition_is_worked_on_twice_and_in_the_end_all_are() {
    let mut handed = 0;
    for seed in seeds() {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        match run {
            Ok(count) => handed += count,
            Err(panic) => {
                eprintln!("replay with HEADWATER_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(handed > 0, "no member was ever given anything");
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings { seed, ..Settings::default() };
        let process = |who: usize| Process {
            life: 0,
            instance: (who >= MEMBERS - 2).then(|| format!("i{who}")),
            member: Member::new(Duration::ZERO),
            works_on: Places::new(),
            wakes: None,
        };
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            now: 0,
            coordinator: Coordinator::new(settings.clone()),
            settings,
            log: Vec::new(),
            tickets: 0,
            processes: (0..MEMBERS).map(process).collect(),
            events: BTreeMap::new(),
            order: 0,
            storm: true,
            handed: 0,
        };
        world.create(0, 5);
        world.create(1, 3);
        world
    }

    fn run(mut self) -> usize {
        for who in 0..MEMBERS {
            let begins = self.random.random_range(0..20_000);
            self.wake(who, begins);
            let ends = self.random.random_range(20_000..STORM_MS);
            self.at(ends, who, Event::Ends);
        }
        for _ in 0..8 {
            let when = self.random.random_range(1_000..STORM_MS);
            self.at(when, 0, Event::World);
        }
        self.until(STORM_MS);
        self.storm = false;
        self.until(STORM_MS + QUIET_MS);
        self.all_is_worked_on();
        self.handed
    }

    fn at(&mut self, after_ms: i64, who: usize, event: Event) {
        self.order += 1;
        let life = self.processes[who].life;
        self.events.insert((self.now + after_ms, self.order), (who, life, event));
    }

    fn until(&mut self, end: i64) {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let tick = self.coordinator.next_deadline();
            let Some(at) = event.into_iter().chain(tick).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if tick.is_some_and(|tick| tick <= self.now) {
                let effects = self.coordinator.tick(self.now);
                self.keep(effects);
            } else if let Some((_, (who, life, event))) = self.events.pop_first() {
                // What happens to the world happens whoever was there when it was planned.
                let of_world = matches!(event, Event::World | Event::Ends | Event::Arrives { .. });
                if of_world || life == self.processes[who].life {
                    self.happen(who, life, event);
                }
            }
            self.check();
        }
        self.now = end;
    }

    fn keep(&mut self, effects: Vec<Effect>) -> Option<Response> {
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Append(record) => self.log.push(record),
                Effect::Reply { response, .. } => reply = Some(response),
                _ => {}
            }
        }
        reply
    }

    fn ask(&mut self, request: Request) -> Response {
        self.tickets += 1;
        let client = Client { id: "client".into(), host: "/127.0.0.1".into(), ..Client::default() };
        let effects = self.coordinator.handle(self.tickets, &client, request, self.now);
        self.keep(effects).expect("an answer at once")
    }

    fn create(&mut self, number: u32, partitions: i32) {
        let name = format!("t{number}");
        let topic = NewTopic { name, partitions, replication_factor: -1, configs: Vec::new() };
        self.ask(Request::CreateTopics { topics: vec![topic], validate_only: false });
    }

    /// Short in quiet times.
    fn delay(&mut self) -> i64 {
        let long = self.storm && self.random.random_bool(0.1);
        self.random.random_range(1..if long { TIMEOUT_MS } else { 40 })
    }

    fn happen(&mut self, who: usize, life: u32, event: Event) {
        let now = Duration::from_millis(self.now as u64);
        let jitter = self.random.random_range(0.0..1.0);
        let process = &mut self.processes[who];
        match event {
            Event::Arrives { beat, lost, answer_lost } => {
                return self.arrive(who, life, beat, lost, answer_lost);
            }
            Event::Answered(Ok(answer)) => process.member.answered(answer, now),
            Event::Answered(Err(error)) => {
                if !process.member.failed(&error, now, jitter) {
                    return self.restart(who);
                }
            }
            Event::Looked { ids, failed } => {
                let known = self.coordinator.topics().filter(|topic| ids.contains(&topic.id) && !failed);
                let names = known.map(|topic| (topic.id, topic.name.clone())).collect();
                process.member.resolved(names, now, jitter);
            }
            Event::Found { round } => {
                if let Some(handed) = process.member.taken(round, now) {
                    self.handed += handed.new.len();
                    process.works_on = handed.all;
                }
            }
            Event::LetGo { places } => {
                process.works_on.retain(|place| !places.contains(place));
                process.member.released(now);
            }
            Event::Wakes { at } if process.wakes == Some(at) => process.wakes = None,
            Event::Wakes { .. } => return,
            Event::Ends => return self.end(who),
            Event::World => return self.change(),
        }
        self.act(who);
    }

    /// Does what the member asks for.
    fn act(&mut self, who: usize) {
        let now = Duration::from_millis(self.now as u64);
        while let Some(act) = self.processes[who].member.next(now) {
            let delay = self.delay();
            match act {
                Act::Beat(beat) => {
                    let lost = self.storm && self.random.random_bool(0.05);
                    let answer_lost = self.storm && self.random.random_bool(0.05);
                    self.at(delay / 2, who, Event::Arrives { beat, lost, answer_lost });
                }
                Act::Look(ids) => {
                    let failed = self.storm && self.random.random_bool(0.3);
                    self.at(delay, who, Event::Looked { ids, failed });
                }
                Act::Take { round, .. } => self.at(delay, who, Event::Found { round }),
                Act::Revoke { places, .. } => {
                    // Now and then longer than the rebalance timeout.
                    let busy = if self.storm && self.random.random_bool(0.1) { 20 } else { 1 };
                    self.at(delay * busy, who, Event::LetGo { places });
                }
            }
        }
        if let Some(at) = self.processes[who].member.wake_at() {
            self.wake(who, at.saturating_sub(now).as_millis() as i64 + 1);
        }
    }

    fn wake(&mut self, who: usize, after_ms: i64) {
        let at = self.now + after_ms;
        if self.processes[who].wakes.is_none_or(|earlier| at < earlier) {
            self.processes[who].wakes = Some(at);
            self.at(after_ms, who, Event::Wakes { at });
        }
    }

    fn arrive(&mut self, who: usize, life: u32, beat: Beat, lost: bool, answer_lost: bool) {
        let unheard = || ClientError::Timeout {
            what: "ConsumerGroupHeartbeat",
            address: "simulation".to_owned(),
            after: Duration::from_millis(TIMEOUT_MS as u64),
        };
        let answer = if lost { Err(unheard()) } else { self.heartbeat(who, life, beat) };
        if life != self.processes[who].life {
            return;
        }
        match lost || answer_lost {
            true => self.at(TIMEOUT_MS, who, Event::Answered(Err(unheard()))),
            false => {
                let delay = self.delay() / 2;
                self.at(delay, who, Event::Answered(answer));
            }
        }
    }

    fn heartbeat(&mut self, who: usize, life: u32, beat: Beat) -> Result<Answer, ClientError> {
        let request = ConsumerGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: format!("p{who}-{life}"),
            member_epoch: beat.epoch,
            instance_id: self.processes[who].instance.clone(),
            rebalance_timeout_ms: beat.full.then_some(10_000),
            topics: beat.full.then(|| (0..TOPICS).map(|number| format!("t{number}")).collect()),
            owned: beat.owned,
            names_itself: true,
            ..ConsumerGroupHeartbeat::default()
        };
        match self.ask(Request::ConsumerGroupHeartbeat(request)) {
            Response::ConsumerGroupHeartbeat(Ok(answer)) => Ok(Answer {
                epoch: answer.member_epoch,
                interval: Duration::from_millis(answer.heartbeat_interval_ms as u64),
                assignment: answer.assignment,
            }),
            Response::ConsumerGroupHeartbeat(Err(Failure { error, message })) => {
                Err(ClientError::kafka("heartbeat", error.code(), Some(&message)))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The process ends: it leaves, or it is simply gone.
    fn end(&mut self, who: usize) {
        if self.random.random_bool(0.6) {
            let process = &self.processes[who];
            let request = ConsumerGroupHeartbeat {
                group_id: GROUP.to_owned(),
                member_id: process.id(who),
                member_epoch: if process.instance.is_some() { -2 } else { -1 },
                instance_id: process.instance.clone(),
                names_itself: true,
                ..ConsumerGroupHeartbeat::default()
            };
            self.ask(Request::ConsumerGroupHeartbeat(request));
        }
        self.restart(who);
    }

    fn restart(&mut self, who: usize) {
        let begins = self.random.random_range(1..60_000);
        let process = &mut self.processes[who];
        process.life += 1;
        process.works_on.clear();
        process.member = Member::new(Duration::from_millis((self.now + begins) as u64));
        process.wakes = None;
        self.wake(who, begins);
    }

    fn change(&mut self) {
        let number = self.random.random_range(0..TOPICS);
        let partitions = self.random.random_range(4..9);
        match self.random.random_range(0..4) {
            0 => {
                self.ask(Request::DeleteTopics(vec![TopicRef::Name(format!("t{number}"))]));
            }
            1 => {
                let more = NewPartitions { name: format!("t{number}"), count: partitions };
                self.ask(Request::CreatePartitions { topics: vec![more], validate_only: false });
            }
            2 => self.create(number, partitions),
            _ => {
                // Another seed, or topics to come have the ids of topics before.
                let settings = Settings { seed: self.settings.seed + self.tickets, ..self.settings.clone() };
                self.coordinator = Coordinator::new(settings);
                for record in &self.log {
                    self.coordinator.apply(record, self.now);
                }
            }
        }
    }

    fn describe(&mut self) -> ConsumerGroupDescription {
        match self.ask(Request::DescribeConsumerGroups(vec![GROUP.to_owned()])) {
            Response::DescribeConsumerGroups(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn check(&mut self) {
        let members: BTreeSet<String> =
            self.describe().members.into_iter().map(|member| member.member_id).collect();
        let mut workers = BTreeMap::new();
        for (who, process) in self.processes.iter().enumerate() {
            if !members.contains(&process.id(who)) {
                continue;
            }
            for place in &process.works_on {
                if let Some(other) = workers.insert(*place, who) {
                    panic!("at {} ms {place:?} is worked on by {other} and {who}", self.now);
                }
            }
        }
    }

    fn all_is_worked_on(&mut self) {
        let existing: Places = self
            .coordinator
            .topics()
            .filter(|topic| topic.name.starts_with('t'))
            .flat_map(|topic| (0..topic.partitions).map(|partition| (topic.id, partition)))
            .collect();
        let worked_on: Places = self.processes.iter().flat_map(|process| process.works_on.clone()).collect();
        assert_eq!(worked_on, existing, "all that there is is worked on, and nothing else");
        let described = self.describe();
        assert_eq!(described.state, "Stable");
        let epochs: BTreeSet<i32> = self.processes.iter().map(|process| process.member.epoch()).collect();
        assert_eq!(epochs, BTreeSet::from([described.epoch]));
    }
}
