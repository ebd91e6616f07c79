use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match headwater_flights::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", headwater_flights::APPLICATION_ID);
            ExitCode::FAILURE
        }
    }
}
