import express from "express";

const app = express();
const port = process.env.PORT ?? {{port}};

app.get("/", (req, res) => {
  res.json({ message: "Project {{project_id}} running" });
});

app.listen(port, () => {
  console.log(`Server running on port ${port}`);
});
