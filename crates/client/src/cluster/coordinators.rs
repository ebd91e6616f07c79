//! Who coordinates a group or a transactional id, and calls that follow it.

use std::time::Duration;

use headwater_wire::messages::FindCoordinatorRequestData;
use headwater_wire::{ErrorCode, KafkaString};

use super::{CoordinatorOf, Lane};
use crate::call::Call;
use crate::{Client, ClientError};

impl Client {
    pub(crate) async fn coordinator(&self, of: CoordinatorOf, key: &str) -> Result<String, ClientError> {
        let cache_key = (of, key.to_owned());
        if let Some(address) = self.state().coordinators.get(&cache_key).cloned() {
            return Ok(address);
        }
        let request = FindCoordinatorRequestData::default()
            .with_key(KafkaString::from(key.to_owned()))
            .with_key_type(if of == CoordinatorOf::Group { 0 } else { 1 });
        let answer = self.look_up(&request).await?;
        if answer.error_code != 0 {
            let message = answer.error_message.as_ref().map(|m| m.as_str());
            return Err(ClientError::kafka(
                format!("find the coordinator of {key}"),
                answer.error_code,
                message,
            ));
        }
        let address = format!("{}:{}", answer.host, answer.port);
        self.state().coordinators.insert(cache_key, address.clone());
        Ok(address)
    }

    pub(crate) fn forget_coordinator(&self, of: CoordinatorOf, key: &str) {
        self.state().coordinators.remove(&(of, key.to_owned()));
    }

    /// Calls a coordinator and tries again, at another one if need be, until `check` is content.
    pub(crate) async fn call_coordinator<C: Call>(
        &self,
        lane: Lane,
        of: CoordinatorOf,
        key: &str,
        request: &C,
        timeout: Duration,
        check: impl Fn(&C::Response) -> Result<(), ClientError>,
    ) -> Result<C::Response, ClientError> {
        let mut pause = self.patience();
        loop {
            let attempt = async {
                let address = self.coordinator(of, key).await?;
                let connection = self.connection(lane, &address).await?;
                let answer = self.waiting_for(C::NAME, &address, connection.call(request, timeout)).await?;
                check(&answer).map(|()| answer)
            };
            match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(error) if !error.is_retriable() => return Err(error),
                // The one before is being completed, which takes milliseconds.
                Err(error) if error.code() == Some(ErrorCode::ConcurrentTransactions) => {
                    pause.wait_briefly(C::NAME, error).await?;
                }
                Err(error) => {
                    if error.code() != Some(ErrorCode::UnstableOffsetCommit) {
                        self.forget_coordinator(of, key);
                    }
                    pause.wait(C::NAME, error).await?;
                }
            }
        }
    }
}
