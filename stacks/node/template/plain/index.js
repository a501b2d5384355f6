import { createServer } from "node:http";

const port = process.env.PORT ?? {{port}};

const server = createServer((req, res) => {
  res.setHeader("Content-Type", "application/json");
  res.end(JSON.stringify({ message: "Project {{project_id}} running" }));
});

server.listen(port, "0.0.0.0", () => {
  console.log(`Server running on port ${port}`);
});
