# Keeps the state in Lakebase: `lakebase-token exec -- terraform init`. Host, role and password come from
# libpq's variables, which `exec` sets. Terraform writes none of them into .terraform or a plan.
terraform {
  backend "pg" {}
}

output "kept_in" {
  value = "Lakebase"
}
