# State in Lakebase: `lakebase-token exec -- terraform init`, and so on. Where and as whom, and the password,
# come from libpq's variables, which exec sets; nothing of it is written into .terraform or a plan.
terraform {
  backend "pg" {}
}

output "kept_in" {
  value = "Lakebase"
}
