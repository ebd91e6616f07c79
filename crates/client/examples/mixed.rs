use std::time::{Duration, Instant};
use headwater_client::*;
#[tokio::main]
async fn main() {
    let mut a = std::env::args().skip(1);
    let client = Client::connect(ClientConfig::new(a.next().unwrap(), "mixed")).await.unwrap();
    client.ensure_topic(NewTopic::new("mixed-t", 4)).await.unwrap();
    let mut m = GroupConsumer::join(&client, GroupConfig::new("mixed-g", vec!["mixed-t".into()])).await.unwrap();
    let b = Instant::now();
    while b.elapsed() < Duration::from_secs(40) {
        if let Some(e) = m.poll(Duration::from_secs(1)).await.unwrap() { println!("{:?} {e:?}", b.elapsed()); }
    }
    println!("{:#?}", client.describe_group("mixed-g").await.unwrap());
    m.leave().await.unwrap();
}
