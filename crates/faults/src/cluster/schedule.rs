//! Which node is lost when, and how; everything from the seed, save who leads the controllers at the time.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::nodes::{COUNT, Nodes};

/// What was done to the nodes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub kills: usize,
    pub pauses: usize,
    /// Losses of the node that led the controllers.
    pub controllers: usize,
}

/// Rounds in which each node is lost once and comes back, until `until`; at least one.
pub fn run(nodes: &Nodes, seed: u64, until: Instant) -> Result<Done> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut done = Done::default();
    loop {
        let mut order: Vec<usize> = (1..=COUNT).collect();
        order.shuffle(&mut random);
        // The controllers' leader first: later its place has moved on.
        if let Ok(leader) = nodes.controller() {
            order.sort_by_key(|node| *node != leader);
        }
        for (turn, node) in order.into_iter().enumerate() {
            // A round has both; which of the nodes is paused is the seed's.
            let pause = if turn + 1 == COUNT { done.pauses == 0 } else { random.random_bool(0.4) };
            lose(nodes, node, pause, &mut random, &mut done)?;
        }
        if Instant::now() >= until {
            return Ok(done);
        }
    }
}

fn lose(nodes: &Nodes, node: usize, pause: bool, random: &mut StdRng, done: &mut Done) -> Result<()> {
    std::thread::sleep(Duration::from_millis(random.random_range(1000..3000)));
    // Longer than the 6 s after which the node's leaders move, and sometimes shorter.
    let away = Duration::from_millis(random.random_range(4000..11_000));
    done.controllers += usize::from(nodes.controller().is_ok_and(|leader| leader == node));
    let action = if pause { "pause" } else { "kill" };
    eprintln!("cluster: {action} {node}, back after {away:?}");
    nodes.act(action, node)?;
    match pause {
        true => done.pauses += 1,
        false => done.kills += 1,
    }
    std::thread::sleep(away);
    nodes.act("restart", node)?;
    nodes.wait_in_sync()
}
